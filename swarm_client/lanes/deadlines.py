"""What is to happen unless something else happens first. Knows no lanes."""

import asyncio
from collections.abc import Callable
from itertools import count
from math import inf


class Deadlines:
    """Calls back what was not dropped in time. Belongs to the event loop it was made in.

    All share one timer of the loop. Nearly all are dropped, thousands per second, and a timer of
    its own for each would take four times as long.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._keys = count()
        self._waiting: dict[int, tuple[float, Callable[[], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = inf

    def set(self, delay_s: float, expire: Callable[[], None]) -> int:
        """Call `expire` after so many seconds; return a key to drop it by."""
        key, at = next(self._keys), self._loop.time() + delay_s
        self._waiting[key] = (at, expire)
        if at < self._fires_at:
            self._fire_at(at)
        return key

    def drop(self, key: int) -> None:
        """Do not call it any more; without effect when it was called."""
        self._waiting.pop(key, None)

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
        for key in [key for key, (at, _) in self._waiting.items() if at <= now]:
            if (expired := self._waiting.pop(key, None)) is not None:  # one may drop another
                expired[1]()
        if self._waiting:
            self._fire_at(min(at for at, _ in self._waiting.values()))
