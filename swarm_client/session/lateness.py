"""Steps whose replies are late, and other ways to their outputs that are prepared meanwhile.

```
step ───────── patience ends ───────────────────────── ... a reply after all: too late
                └─ prepare: dial others, replay ── ready: the step is given up
```
Whoever is first counts, so patience may be short: a server that is only slow loses nothing but its
session, and a busy one mostly answers before others are ready.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, TypeAlias, TypeVar

from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import SwarmError

Output = TypeVar("Output")
Step = TypeVar("Step")
Prepared = TypeVar("Prepared")
Prepare: TypeAlias = Callable[[Step], Coroutine[Any, Any, Prepared]]

_BETWEEN_LOOKS_S: Final = 0.1


def patience_s(slow_s: float | None, settings: RoutingSettings, *, is_first: bool) -> float:
    """Return after how many seconds a step is late.

    Args:
        slow_s: what one in ten of such steps exceeds; None if that is not known.
        settings: of the client.
        is_first: the server may let it wait for KV memory.
    """
    wait_s = settings.kv_wait_s if is_first else 0.0
    if slow_s is None:
        return wait_s + settings.first_patience_s
    return wait_s + settings.late_margin_s + settings.late_factor * slow_s


class LateWatch(Generic[Step, Prepared]):
    """Watches the steps of a session.

    It looks at them ten times a second: nearly all are over before, and a timer for each would
    take longer than all the rest.
    """

    def __init__(
        self,
        patience_s: Callable[[Step], float],
        prepare: Prepare[Step, Prepared],
        discard: Callable[[Prepared], None],
    ) -> None:
        """Watch nothing yet.

        Args:
            patience_s: tells how long a step may take.
            prepare: called when it has taken longer. When that is cancelled, or fails with a
                SwarmError, it leaves nothing behind.
            discard: gets what was prepared when the caller leaves at the same time.
        """
        self._patience_s = patience_s
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
        waiting: _Waiting[Step, Prepared] = _Waiting(step, asyncio.current_task(), now)
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
            if one.preparation is None and now - one.sent_at >= self._patience_s(one.step):
                one.preparation = asyncio.create_task(one.run(self._prepare))


class _Waiting(Generic[Step, Prepared]):
    """A step under way, and what is prepared in its place.

    Attributes:
        preparation: None while the step is not late.
        prepared: what is ready; None before.
    """

    __slots__ = ("_num_cancels", "_task", "preparation", "prepared", "sent_at", "step")

    def __init__(self, step: Step, task: "asyncio.Task[Any] | None", sent_at: float) -> None:
        self.step = step
        self.sent_at = sent_at
        self.preparation: asyncio.Task[None] | None = None
        self.prepared: Prepared | None = None
        self._task = task
        self._num_cancels = 0

    async def run(self, prepare: Prepare[Step, Prepared]) -> None:
        """Prepare, then interrupt the step."""
        try:
            prepared = await prepare(self.step)
        except SwarmError:
            return  # the step is waited for, as long as a step may take
        assert self._task is not None
        self.prepared = prepared
        self._num_cancels = self._task.cancelling()
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
