"""When to try something again that has failed. Pure; times are given."""

from collections.abc import Callable
from random import random


class Backoff:
    """Waits longer after each failure in a row, up to a bound, and not in step with others.

    Args:
        jitter: returns numbers from 0 to 1; a wait is between half of itself and all of it.
    """

    def __init__(self, first_s: float, most_s: float, jitter: Callable[[], float] = random) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._jitter = jitter
        self._num_failures = 0
        self._again_at = 0.0
        self.wait_s = 0.0
        """After the latest failure; 0 when there was none, or a success since."""

    def may_try(self, now: float) -> bool:
        """Tell whether it is time to try."""
        return self._num_failures == 0 or now >= self._again_at

    def failed(self, now: float) -> bool:
        """Note a failure; tell whether it is the first in a row."""
        longest_s = min(self._most_s, self._first_s * 2.0 ** min(self._num_failures, 30))
        self._num_failures += 1
        self.wait_s = longest_s * (1 + self._jitter()) / 2
        self._again_at = now + self.wait_s
        return self._num_failures == 1

    def succeeded(self) -> bool:
        """Note a success; tell whether it is the first after a failure."""
        was_failing = self._num_failures > 0
        self._num_failures = 0
        self.wait_s = 0.0
        return was_failing
