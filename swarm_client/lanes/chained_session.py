"""Sessions of one route in a row, whose servers send outputs on to each other.

Only the first server of the row is sent a step. Each sends its outputs to the next one, and to us,
who keep them as the inputs of that one: should they not get there, we send them ourselves.

```
  step ──> first ───────────────────────────────────────> server A
           first <── outputs, and ... ────────────────────┤
                                                          v outputs
          second <── outputs ──────────────────────────── server B
          second ─ ─ ─ the outputs of A, if B is late ─ ─ ^
```
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch

from swarm_client.lanes.lane_session import LaneHopSession
from swarm_client.routing import Hop
from swarm_client.session.hop_session import HopOutput, HopSession, StepInputs

_PATIENCE_S: Final = 0.1
_PATIENCE_FACTOR: Final = 3.0
"""A server may take so many times as long as the one before it took, and the time above."""

_MAX_LATE: Final = 3
"""Steps in a row for which pushes may be late, until they are not waited for any more."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pushed:
    """A step that the server before sends: which one, and the output to be."""

    number: int
    position: int
    shape: torch.Size
    output: asyncio.Future[HopOutput]

    def fits(self, inputs: StepInputs, position: int) -> bool:
        return self.position == position and self.shape == inputs.hidden.shape


class ChainedHopSession:
    """A `HopSession` in a lane, before and behind others of its kind. Made by `chain_sessions`."""

    def __init__(self, session: LaneHopSession, following: "ChainedHopSession | None") -> None:
        self._session = session
        self._following = following
        self._sessions: tuple[LaneHopSession, ...] = (session,)  # from here on
        self._pushed: deque[_Pushed] = deque()
        self._patience_s = _PATIENCE_S
        self._num_late = 0
        if following is not None:
            self._sessions += following._sessions
            session.push_target = following._session.as_target()

    @property
    def hop(self) -> Hop:
        """See `HopSession`, as for all that follows."""
        return self._session.hop

    @property
    def can_roll_back(self) -> bool:
        """See `LaneHopSession`."""
        return self._session.can_roll_back

    @property
    def max_step_tokens(self) -> int:
        """See `LaneHopSession`."""
        return self._session.max_step_tokens

    @property
    def may_queue(self) -> bool:
        """See `LaneHopSession`."""
        return self._session.may_queue

    async def match_prefix(self, token_ids: Sequence[int]) -> int:
        """See `LaneHopSession`."""
        return await self._session.match_prefix(token_ids)

    async def step(self, inputs: StepInputs, *, position: int) -> HopOutput:
        """Wait for the outputs of a step, which is sent unless another server has done so."""
        while self._pushed and not self._pushed[0].fits(inputs, position):
            self._pushed.popleft()
        if self._pushed:
            output = await self._wait_for_push(self._pushed.popleft(), inputs)
        else:
            output = await self._session.wait_for(self._send(inputs, position))
        if self._following is not None:
            self._following.be_patient(output)
        return output

    async def close(self) -> None:
        """See `LaneHopSession`."""
        await self._session.close()

    def abandon(self) -> None:
        """See `LaneHopSession`; what was not pushed yet will not be."""
        self._session.abandon()
        if self._following is not None:
            self._following.expect_no_pushes()

    def expect_no_pushes(self) -> None:
        """The server before is left: what it has not sent on by now must be sent by us."""
        self._patience_s = 0.0

    def be_patient(self, output: HopOutput) -> None:
        """Adapt to how long the server before has taken for a step."""
        took_ms = (output.queue_ms or 0.0) + (output.compute_ms or 0.0)
        self._patience_s = _PATIENCE_S + _PATIENCE_FACTOR * took_ms / 1e3

    def _send(self, inputs: StepInputs, position: int) -> asyncio.Future[HopOutput]:
        """Submit a step; those behind, whose servers get it pushed, expect their outputs.

        Servers push as far as they can. A number that any server behind may have seen is never
        used again: it would take another step by that number for one that it has run.
        """
        row = self._row_behind(inputs)
        shape = inputs.hidden.shape
        number = 1 + max([each.number for each in self._sessions])
        output = self._session.expect(number, shape)
        self._session.submit(inputs, position, number, wants_push=bool(row))
        for one in row:
            pushed = _Pushed(number, position, shape, one._session.expect(number, shape))
            one._pushed.append(pushed)
        for each in self._sessions:
            each.number = number
        return output

    def _row_behind(self, inputs: StepInputs) -> "list[ChainedHopSession]":
        """Return the sessions whose servers can get a step pushed, one after the other."""
        row: list[ChainedHopSession] = []
        following = self._following
        while following is not None and following._takes_pushes(inputs):
            row.append(following)
            following = following._following
        return row

    def _takes_pushes(self, inputs: StepInputs) -> bool:
        num_rows, num_tokens, _ = inputs.hidden.shape
        return (
            inputs.prompts is None
            and self._session.is_usable
            and num_rows * num_tokens <= self.max_step_tokens
        )

    async def _wait_for_push(self, pushed: _Pushed, inputs: StepInputs) -> HopOutput:
        """Wait for the outputs; when they are late, send the step. The server runs it once."""
        if pushed.output.done():
            self._num_late = 0
            return await self._session.wait_for(pushed.output)
        patience_s = self._patience_s if self._num_late < _MAX_LATE else 0.0
        deadlines = self._session.deadlines
        key = deadlines.set(patience_s, partial(self._send_late, inputs, pushed))
        num_late = self._num_late
        try:
            return await self._session.wait_for(pushed.output)
        finally:
            deadlines.drop(key)
            if self._num_late == num_late:
                self._num_late = 0

    def _send_late(self, inputs: StepInputs, pushed: _Pushed) -> None:
        self._num_late += 1
        if self._session.is_usable:
            wants_push = bool(self._row_behind(inputs))
            self._session.submit(inputs, pushed.position, pushed.number, wants_push=wants_push)


def chain_sessions(sessions: Sequence[HopSession]) -> Sequence[HopSession]:
    """Return sessions of consecutive hops in a row, if all of them are in lanes."""
    chained: list[ChainedHopSession] = []
    for session in reversed(sessions):
        if not isinstance(session, LaneHopSession):
            return sessions
        chained.append(ChainedHopSession(session, chained[-1] if chained else None))
    return chained[::-1] if len(chained) > 1 else sessions
