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
from functools import partial
from time import monotonic
from typing import Final

from swarm_client.lanes.lane_session import ExpectedStep, LaneHopSession
from swarm_client.session.hop_session import HopOutput, HopSession, StepInputs

_PATIENCE_S: Final = 0.1
_PATIENCE_FACTOR: Final = 3.0

_MAX_LATE: Final = 3
"""Steps in a row for which pushes may be late, until they are not waited for any more."""


class ChainedHopSession:
    """A `HopSession` in a lane, before and behind others of its kind. Made by `chain_sessions`.

    Attributes:
        hop, can_roll_back, max_step_tokens: see `LaneHopSession`.
    """

    can_roll_back: Final = True

    def __init__(self, session: LaneHopSession, following: "ChainedHopSession | None") -> None:
        self.hop = session.hop
        self.max_step_tokens = session.max_step_tokens
        self._session = session
        self._following = following
        self._pushed: deque[ExpectedStep] = deque()  # by the server before
        self._patience_s = _PATIENCE_S
        self._num_late = 0
        if following is not None:
            session.push_target = following._session.as_target()
            # A number that any server behind may have seen is never used again: it would take
            # another step by that number for one that it has run.
            session.numbers = following._session.numbers

    @property
    def may_queue(self) -> bool:
        """See `LaneHopSession`."""
        return self._session.may_queue

    async def match_prefix(self, token_ids: Sequence[int]) -> int:
        """See `LaneHopSession`."""
        return await self._session.match_prefix(token_ids)

    async def step(self, inputs: StepInputs, *, position: int) -> HopOutput:
        """Wait for the outputs of a step, which is sent unless another server has done so."""
        began_at = monotonic()
        pushed = self._next_pushed(inputs, position) if self._pushed else None
        if pushed is None:
            output = await self._session.wait_for(self._send(inputs, position))
        else:  # when it is late, we send the step; the server runs it once
            num_late = self._num_late
            patience_s = self._patience_s if num_late < _MAX_LATE else 0.0
            send_late = partial(self._send_late, inputs, pushed)
            output = await self._session.wait_for(pushed.output, patience_s, send_late)
            if self._num_late == num_late:
                self._num_late = 0
        if self._following is not None:
            since = max(began_at, self._session.opened_at)  # that it waited for memory is no way
            self._following.be_patient(output, monotonic() - since)
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

    def be_patient(self, output: HopOutput, took_s: float) -> None:
        """Adapt to how long the server before has taken for a step, and its outputs to come."""
        self._patience_s = patience_s(output, took_s)

    def _next_pushed(self, inputs: StepInputs, position: int) -> ExpectedStep | None:
        """Return the step that the server before sends, if it is this one."""
        while self._pushed:
            pushed = self._pushed.popleft()
            size = (pushed.num_rows, pushed.num_tokens)
            if pushed.position == position and size == (inputs.num_rows, inputs.num_tokens):
                return pushed
        return None

    def _send(self, inputs: StepInputs, position: int) -> asyncio.Future[HopOutput]:
        """Submit a step; those behind, whose servers get it pushed, expect their outputs.

        Servers push as far as they can.
        """
        row = self._row_behind(inputs)
        number = next(self._session.numbers)
        expected = self._session.expect(number, position, inputs)
        self._session.submit(inputs, expected, [one._session for one in row])
        for one in row:
            one._pushed.append(one._session.expect(number, position, inputs))
        return expected.output

    def _row_behind(self, inputs: StepInputs) -> "list[ChainedHopSession]":
        """Return the sessions whose servers can get a step pushed, one after the other."""
        row: list[ChainedHopSession] = []
        following = self._following
        while following is not None and following._takes_pushes(inputs):
            row.append(following)
            following = following._following
        return row

    def _takes_pushes(self, inputs: StepInputs) -> bool:
        return (
            inputs.prompts is None
            and self._session.is_usable
            and inputs.size <= self.max_step_tokens
        )

    def _send_late(self, inputs: StepInputs, pushed: ExpectedStep) -> None:
        self._num_late += 1
        if self._session.is_usable:
            row = [one._session for one in self._row_behind(inputs)]
            self._session.submit(inputs, pushed, row)


def patience_s(before: HopOutput, took_s: float) -> float:
    """Return how long a server may take for a step that it gets pushed.

    Several times as long as the server before it, and as long again as the way was: over a slow
    link the outputs of a prompt take seconds, and our copy would be in the way of the next ones.

    Args:
        before: outputs of the server that pushes.
        took_s: in which they came back, their way included.
    """
    server_s = ((before.queue_ms or 0.0) + (before.compute_ms or 0.0)) / 1e3
    return _PATIENCE_S + _PATIENCE_FACTOR * server_s + max(0.0, took_s - server_s)


def chain_sessions(sessions: Sequence[HopSession]) -> Sequence[HopSession]:
    """Return sessions of consecutive hops in a row, if all of them are in lanes."""
    chained: list[ChainedHopSession] = []
    for session in reversed(sessions):
        if not isinstance(session, LaneHopSession):
            return sessions
        chained.append(ChainedHopSession(session, chained[-1] if chained else None))
    return chained[::-1] if len(chained) > 1 else sessions
