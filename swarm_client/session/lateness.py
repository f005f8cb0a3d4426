"""Steps whose replies are late, and other ways to their outputs that are prepared meanwhile.

```
step ───── doubt: ping ──── it answers: wait ───── patience ends ──────── ... a reply: too late
                └─ no answer ─┐                          │
                              └─ prepare: dial others, replay ── ready: the step is given up
```
Who does not answer pings is gone; who does is only slow. Whoever is first counts, so patience may
be short: a server that is only slow loses nothing but its session, and a busy one mostly answers
before others are ready.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from math import inf
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import SwarmError

Output = TypeVar("Output")
Step = TypeVar("Step")
Prepared = TypeVar("Prepared")
Prepare: TypeAlias = Callable[[Step], Coroutine[Any, Any, Prepared]]

_BETWEEN_LOOKS_S: Final = 0.05
_NEVER_LATE_S: Final = 0.1
_BETWEEN_PINGS_S: Final = 0.25
_RETRY_S: Final = 0.1
_MAX_RETRY_S: Final = 5.0
_DOUBT_FACTOR: Final = 3.0
_STRANGE_S: Final = 0.3
_DOUBTFUL_S: Final = 0.5  # a ping is cheap beside a step that usually takes so long


class Patience(NamedTuple):
    """With one step, in seconds from when it was sent.

    Attributes:
        doubt_s: then its server is asked whether it is there, ...
        late_s: ... and then it is late even if it is.
    """

    doubt_s: float
    late_s: float


FOREVER: Final = Patience(inf, inf)


def patience(
    slow_s: float | None,
    expected_s: float | None,
    settings: RoutingSettings,
    *,
    may_queue: bool,
) -> Patience:
    """Return how long a step may take.

    Args:
        slow_s: what one in ten of such steps at this server exceeds; None if that is not known.
        expected_s: of a stranger: what others take, or what it promises; None if nobody knows.
        settings: of the client.
        may_queue: the server may let it wait for KV memory.
    """
    usual_s = expected_s if slow_s is None else slow_s
    if usual_s is None:
        doubt_s, late_s = _STRANGE_S, settings.first_patience_s
    else:
        doubt_s = min(_NEVER_LATE_S + _DOUBT_FACTOR * usual_s, max(_DOUBTFUL_S, usual_s))
        late_s = settings.late_margin_s + settings.late_factor * usual_s
    if slow_s is None:
        late_s = min(late_s, settings.first_patience_s)
    if may_queue:
        late_s += settings.kv_wait_s
    return Patience(min(doubt_s, late_s), late_s)


class LateWatch(Generic[Step, Prepared]):
    """Watches the steps of a session.

    It looks at them twenty times a second: nearly all are over before, and a timer for each would
    take longer than all the rest.
    """

    def __init__(
        self,
        patience: Callable[[Step], Patience],
        is_there: Callable[[Step], Awaitable[bool]],
        prepare: Prepare[Step, Prepared],
        discard: Callable[[Prepared], None],
    ) -> None:
        """Watch nothing yet.

        Args:
            patience: tells how long a step may take.
            is_there: asks its server for a sign of life; true if it gives one soon.
            prepare: called when a step is late, and again some time after it has failed. When it
                is cancelled, or fails with a SwarmError, it leaves nothing behind.
            discard: gets what was prepared when the caller leaves at the same time.
        """
        self._patience = patience
        self._is_there = is_there
        self._prepare = prepare
        self._discard = discard
        self._loop = asyncio.get_running_loop()
        self._waiting: set[_Waiting[Step, Prepared]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def first_of(
        self, outputs: Awaitable[Output], step: Step, now: float
    ) -> Output | Prepared:
        """Return the outputs of a step, or what was prepared when they had taken too long.

        Args:
            outputs: to be awaited.
            step: for the patience it deserves, and what is prepared.
            now: reading of the loop's clock.
        """
        waiting: _Waiting[Step, Prepared] = _Waiting(step, asyncio.current_task(self._loop), now)
        self._waiting.add(waiting)
        if self._timer is None:
            self._timer = self._loop.call_later(_BETWEEN_LOOKS_S, self._look)
        try:
            return await outputs
        except asyncio.CancelledError:
            if waiting.prepared is None:
                raise
            if not waiting.has_interrupted():
                self._discard(waiting.prepared)
                raise
            return waiting.prepared
        finally:
            self._waiting.discard(waiting)
            if waiting.preparation is not None:
                await waiting.end()

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        self._timer = self._loop.call_later(_BETWEEN_LOOKS_S, self._look)
        now = self._loop.time()
        for one in self._waiting:
            age_s = now - one.sent_at
            if one.preparation is not None or age_s < _NEVER_LATE_S:
                continue
            if age_s >= self._patience(one.step).doubt_s:
                one.preparation = asyncio.create_task(self._replace(one))

    async def _replace(self, one: "_Waiting[Step, Prepared]") -> None:
        """Wait until a doubtful step is late, prepare, then interrupt it.

        When that fails it is tried again: those that failed are known by then, and others may have
        come. Meanwhile the step is waited for, as long as a step may take.
        """
        for num_tries in count():
            await self._until_late(one)
            try:
                prepared = await self._prepare(one.step)
            except SwarmError:
                await asyncio.sleep(min(_RETRY_S * 2**num_tries, _MAX_RETRY_S))
            else:
                one.interrupt(prepared)
                return

    async def _until_late(self, one: "_Waiting[Step, Prepared]") -> None:
        """Return when its server gives no sign of life, or patience is over."""
        while await self._is_there(one.step):
            left_s = one.sent_at + self._patience(one.step).late_s - self._loop.time()
            if left_s <= 0:
                return
            await asyncio.sleep(min(left_s, _BETWEEN_PINGS_S))


class _Waiting(Generic[Step, Prepared]):
    """A step under way, and what is prepared in its place.

    Attributes:
        preparation: None while the step is not doubtful.
        prepared: what is ready; None before.
    """

    __slots__ = ("_num_cancels", "_task", "preparation", "prepared", "sent_at", "step")

    def __init__(self, step: Step, task: "asyncio.Task[Any] | None", sent_at: float) -> None:
        self.step = step
        self.sent_at = sent_at
        self.preparation: asyncio.Task[None] | None = None
        self.prepared: Prepared | None = None
        self._task = task
        self._num_cancels = 0 if task is None else task.cancelling()

    def interrupt(self, prepared: Prepared) -> None:
        """End the step: this is ready."""
        assert self._task is not None
        self.prepared = prepared
        self._task.cancel()

    def has_interrupted(self) -> bool:
        """Tell whether nobody but us has cancelled the step, and take that back."""
        assert self._task is not None
        return self._task.uncancel() <= self._num_cancels

    async def end(self) -> None:
        """End the preparation, ready or not."""
        assert self.preparation is not None
        self.preparation.cancel()
        await asyncio.wait([self.preparation])
        if not self.preparation.cancelled():
            self.preparation.result()
