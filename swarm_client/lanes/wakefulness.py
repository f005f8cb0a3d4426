"""Keeps the event loop from falling asleep while outputs of a decode step are on their way.

Between two tokens of a fast server a loop sleeps for a few milliseconds. The system takes up to
0.1 ms to wake it, and what it runs then has left the processor's caches: half as fast at best.
"""

import asyncio
from collections.abc import Callable
from time import monotonic


class Wakefulness:
    """Turns the event loop for a while; for that loop only. It costs one core meanwhile."""

    def __init__(self, stay_awake_s: float, *, clock: Callable[[], float] = monotonic) -> None:
        """Begin asleep.

        Args:
            stay_awake_s: after each call of `stay_awake`.
            clock: in seconds.
        """
        self._stay_awake_s = stay_awake_s
        self._clock = clock
        self._until = 0.0
        self._is_turning = False

    def stay_awake(self) -> None:
        """Turn the loop from now on; a further call makes it longer."""
        self._until = self._clock() + self._stay_awake_s
        if not self._is_turning:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_turning = self._clock() < self._until
        if self._is_turning:
            asyncio.get_running_loop().call_soon(self._turn)
