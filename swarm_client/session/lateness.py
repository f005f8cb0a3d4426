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
_Waiting: TypeAlias = tuple[Step, float, int]
"""A step under way: when it was sent, and how often its task had been cancelled before."""

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
    """Watches the steps of a session, each in a task that waits for no other one.

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
        self._waiting: dict[asyncio.Task[Any], _Waiting[Step]] = {}
        self._doubts: dict[asyncio.Task[Any], _Doubt[Prepared]] = {}
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
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._waiting[task] = (step, now, task.cancelling())
        if self._timer is None:
            self._timer = self._loop.call_later(_BETWEEN_LOOKS_S, self._look)
        try:
            return await outputs
        except asyncio.CancelledError:
            doubt = self._doubts.get(task)
            if doubt is None or doubt.prepared is None:
                raise
            if not doubt.has_interrupted():
                self._discard(doubt.prepared)
                raise
            return doubt.prepared
        finally:
            del self._waiting[task]
            if task in self._doubts:
                await self._doubts.pop(task).end()

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        self._timer = self._loop.call_later(_BETWEEN_LOOKS_S, self._look)
        now = self._loop.time()
        for task, waiting in self._waiting.items():
            step, sent_at, num_cancels = waiting
            age_s = now - sent_at
            if age_s < _NEVER_LATE_S or task in self._doubts:
                continue
            if age_s >= self._patience(step).doubt_s:
                doubt: _Doubt[Prepared] = _Doubt(task, num_cancels)
                doubt.preparation = asyncio.create_task(self._replace(waiting, doubt))
                self._doubts[task] = doubt

    async def _replace(self, waiting: "_Waiting[Step]", doubt: "_Doubt[Prepared]") -> None:
        """Wait until a doubtful step is late, prepare, then interrupt it.

        When that fails it is tried again: those that failed are known by then, and others may have
        come. Meanwhile the step is waited for, as long as a step may take.
        """
        step, sent_at, _ = waiting
        for num_tries in count():
            await self._until_late(step, sent_at)
            try:
                prepared = await self._prepare(step)
            except SwarmError:
                await asyncio.sleep(min(_RETRY_S * 2**num_tries, _MAX_RETRY_S))
            else:
                doubt.interrupt(prepared)
                return

    async def _until_late(self, step: Step, sent_at: float) -> None:
        """Return when its server gives no sign of life, or patience is over."""
        while await self._is_there(step):
            left_s = sent_at + self._patience(step).late_s - self._loop.time()
            if left_s <= 0:
                return
            await asyncio.sleep(min(left_s, _BETWEEN_PINGS_S))


class _Doubt(Generic[Prepared]):
    """What is prepared in the place of a step that may never end.

    Attributes:
        preparation: under way.
        prepared: what is ready; None before.
    """

    preparation: asyncio.Task[None]

    def __init__(self, task: asyncio.Task[Any], num_cancels: int) -> None:
        """Doubt the step that a task waits for, which had been cancelled so often before it."""
        self.prepared: Prepared | None = None
        self._task = task
        self._num_cancels = num_cancels

    def interrupt(self, prepared: Prepared) -> None:
        """End the step: this is ready."""
        self.prepared = prepared
        self._task.cancel()

    def has_interrupted(self) -> bool:
        """Tell whether nobody but us has cancelled the step, and take that back."""
        return self._task.uncancel() <= self._num_cancels

    async def end(self) -> None:
        """End the preparation, ready or not."""
        self.preparation.cancel()
        if not self.preparation.done():  # to wait would be a chance to be cancelled
            await asyncio.wait([self.preparation])
        if not self.preparation.cancelled():
            self.preparation.result()
