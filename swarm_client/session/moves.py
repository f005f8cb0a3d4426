"""Leaving a server between two steps, for others that were brought up to date meanwhile.

It is slow, or about to stop.

```
steps on the old server    ──┬─────┬─────┬─────┬─────┐
others: dial, replay         └───────────────┐       │ catch up: two tokens
steps on the others                                  └─┬─┬─┬─┬─
```
Nothing is lost when it fails: the session goes on where it is.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from swarm_client.routing import Hop
from swarm_client.routing.slowness import SlowHops, SlowRule
from swarm_client.session.hop_session import StepInputs
from swarm_client.session.session_hop import SessionHop
from swarm_client.session.session_hops import SessionHops
from swarm_protocol.errors import SwarmError
from swarm_protocol.identifiers import PeerId

_FEW_TOKENS: Final = 8  # that are caught up with while a step waits for it
_CATCH_UP_S: Final = 1.0

Reason: TypeAlias = Literal["slow", "leaving"]


class Elsewhere(Protocol):
    """What a session asks about its servers, and about those that it does not use."""

    def is_leaving(self, peer: PeerId) -> bool:
        """Tell whether a server has said that it is about to stop."""

    def time_elsewhere_s(self, hop: Hop, num_rows: int) -> float | None:
        """Return the time of a decode step over a hop's blocks at the best other servers.

        None when there are none.
        """

    def claim_move(self) -> bool:
        """Tell whether a session may begin to move: one of a model at a time."""

    def release_move(self) -> None:
        """The session that claimed it has moved, or not."""


Replay: TypeAlias = Callable[[SessionHop, int], Awaitable[SessionHops]]
"""Opens sessions elsewhere over the blocks of a hop, for so many rows, and brings them to where
the hop is. It may raise SwarmErrors, and then leaves nothing open."""

Run: TypeAlias = Callable[[SessionHops, StepInputs], Awaitable[object]]
"""Takes a step along such sessions."""


class _Move:
    """One hop on its way to other servers, while it is still in use."""

    def __init__(
        self, hop: SessionHop, reason: Reason, num_rows: int, replay: Replay, run: Run
    ) -> None:
        self.hop = hop
        self.reason = reason
        self._num_rows = num_rows
        self._replay = replay
        self._run = run
        self._history = hop.history
        self._num_cuts = hop.history.num_cuts
        self._num_run = 0
        self._num_run_tokens = 0
        self._hops: SessionHops | None = None
        self._task = asyncio.create_task(self._prepare())

    @property
    def has_ended(self) -> bool:
        """Whether the others are ready, or will never be."""
        return self._task.done()

    def fits(self, hops: SessionHops, num_rows: int) -> bool:
        """Tell whether the session only went on since: the same hop, its steps, its rows."""
        return (
            any(hop is self.hop for hop in hops)
            and self.hop.is_usable
            and self._num_cuts == self._history.num_cuts
            and num_rows == self._num_rows
        )

    async def finish(self) -> SessionHops | None:
        """Return the others when they are where the hop is; None when that did not succeed."""
        try:
            self._task.result()
            async with asyncio.timeout(_CATCH_UP_S):
                await self._catch_up()
        except (SwarmError, TimeoutError):
            return None
        hops, self._hops = self._hops, None
        return hops

    async def drop(self) -> None:
        """Leave the others."""
        self._task.cancel()
        try:
            if not self._task.done():  # to wait would be a chance to be cancelled
                await asyncio.wait([self._task])
            with suppress(SwarmError, asyncio.CancelledError):
                self._task.result()
        finally:
            for hop in self._hops or ():
                hop.session.abandon()

    async def _prepare(self) -> None:
        self._note_run()
        self._hops = await self._replay(self.hop, self._num_rows)
        while self._num_cuts == self._history.num_cuts and self._num_behind > _FEW_TOKENS:
            await self._catch_up()

    @property
    def _num_behind(self) -> int:
        return self._history.num_tokens - self._num_run_tokens

    async def _catch_up(self) -> None:
        assert self._hops is not None
        steps = self._history.inputs_since(self._num_run)
        self._note_run()
        for step in steps:
            await self._run(self._hops, step)

    def _note_run(self) -> None:
        self._num_run, self._num_run_tokens = self._history.num_steps, self._history.num_tokens


class Moved(NamedTuple):
    """A hop to be replaced, by whom, and why."""

    hop: SessionHop
    others: SessionHops
    reason: Reason


class Moves:
    """Of one session: which hop is moved, if any."""

    def __init__(self, elsewhere: Elsewhere, rule: SlowRule, replay: Replay, run: Run) -> None:
        self._elsewhere = elsewhere
        self._look_s = rule.look_s
        self._slow_hops = SlowHops(rule)
        self._replay = replay
        self._run = run
        self._move: _Move | None = None
        self._next_look_at = 0.0
        self._num_tries: Counter[Hop] = Counter()

    @property
    def is_under_way(self) -> bool:
        """Whether a hop is moved just now."""
        return self._move is not None

    def consider(self, hops: SessionHops, num_rows: int, now: float) -> None:
        """Between steps: begin to move a hop that has to be left. At most one at a time."""
        if now < self._next_look_at or self._move is not None:
            return
        self._next_look_at = now + self._look_s
        movable = [hop for hop in hops if _can_be_moved(hop)]
        if (hop := self._leaving(movable)) is not None:
            self._num_tries[hop.session.hop] += 1
            self._move = _Move(hop, "leaving", num_rows, self._replay, self._run)
        elif (hop := self._slow(movable, num_rows, now)) is not None:
            self._slow_hops.left(hop.session.hop, now)
            self._move = _Move(hop, "slow", num_rows, self._replay, self._run)

    async def take(self, hops: SessionHops, num_rows: int) -> Moved | None:
        """Before a step: return the hop to be replaced, and by whom, if others are ready."""
        move = self._move
        if move is None or not (move.has_ended or not move.fits(hops, num_rows)):
            return None
        try:
            others = await move.finish() if move.fits(hops, num_rows) else None
        finally:
            await self.drop()
        return None if others is None else Moved(move.hop, others, move.reason)

    async def drop(self) -> None:
        """Move nothing."""
        move, self._move = self._move, None
        if move is not None:
            if move.reason == "slow":
                self._elsewhere.release_move()
            await move.drop()

    def _leaving(self, hops: Iterable[SessionHop]) -> SessionHop | None:
        """Return a hop whose server is about to stop: each in turn, if others are not to be had.

        All sessions leave it at once.
        """
        leaving = [hop for hop in hops if self._elsewhere.is_leaving(hop.session.hop.peer)]
        return min(leaving, key=lambda hop: self._num_tries[hop.session.hop], default=None)

    def _slow(self, hops: Iterable[SessionHop], num_rows: int, now: float) -> SessionHop | None:
        """Return a hop whose server is slow, if no other session leaves one just now."""
        for hop in hops:
            if self._is_slow(hop, num_rows, now) and self._elsewhere.claim_move():
                return hop
        return None

    def _is_slow(self, hop: SessionHop, num_rows: int, now: float) -> bool:
        usual_s = hop.latencies.usual_s(num_rows, now)
        if usual_s is None:
            return False
        elsewhere_s = self._elsewhere.time_elsewhere_s(hop.session.hop, num_rows)
        return self._slow_hops.is_to_be_left(hop.session.hop, usual_s, elsewhere_s, now)


def _can_be_moved(hop: SessionHop) -> bool:
    """Tell whether others can be brought to where a hop is."""
    return hop.is_usable and hop.history.is_complete and hop.history.num_steps > 0
