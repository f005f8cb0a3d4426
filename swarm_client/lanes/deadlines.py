"""What is to happen unless something else happens first. Knows no lanes."""

import asyncio
from collections.abc import Callable, Hashable
from math import inf
from typing import Any, TypeVar

Awaited = TypeVar("Awaited", bound=Hashable)


class Deadlines:
    """Calls back what was not dropped in time. Belongs to the event loop it was made in.

    All share one timer of the loop. Nearly all are dropped, thousands per second, and a timer of
    its own for each would take four times as long.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # each callback takes what it belongs to, of whatever type
        self._waiting: dict[Hashable, tuple[float, Callable[[Any], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = inf

    def set(self, awaited: Awaited, delay_s: float, expire: Callable[[Awaited], None]) -> None:
        """Call `expire(awaited)` after so many seconds, in the place of what was set before."""
        at = self._loop.time() + delay_s
        self._waiting[awaited] = (at, expire)
        if at < self._fires_at:
            self._fire_at(at)

    def drop(self, awaited: Hashable) -> None:
        """Do not call it any more; without effect when it was called."""
        self._waiting.pop(awaited, None)

    def clear(self) -> None:
        """Drop all."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._fires_at = None, inf

    def _fire_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._fires_at = self._loop.call_at(at, self._fire), at

    def _fire(self) -> None:
        self._timer, self._fires_at = None, inf
        now = self._loop.time()
        for awaited in [awaited for awaited, (at, _) in self._waiting.items() if at <= now]:
            if (expired := self._waiting.pop(awaited, None)) is not None:  # one may drop another
                expired[1](awaited)
        if self._waiting:
            self._fire_at(min([at for at, _ in self._waiting.values()]))
