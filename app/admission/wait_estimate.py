"""When a turn will come, from how fast slots have become free. Pure; times are given."""

import math
from typing import Final

_FIRST_GUESS_S: Final = 1.0
_WEIGHT: Final = 0.2  # of the latest interval; the rest is what was known before
_MAX_S: Final = 600


class WaitEstimate:
    """Watches slots become free while all of them are taken."""

    def __init__(self) -> None:
        self._interval_s: float | None = None
        self._since: float | None = None

    def filled(self, now: float) -> None:
        """Note that the last free slot was taken."""
        if self._since is None:
            self._since = now

    def freed(self, now: float) -> None:
        """Note that a slot became free."""
        if self._since is None:
            return
        took_s = now - self._since
        known_s = took_s if self._interval_s is None else self._interval_s
        self._interval_s = known_s + _WEIGHT * (took_s - known_s)
        self._since = None

    def wait_s(self, num_ahead: int) -> int:
        """Return whole seconds, at least 1, until a slot is free for one behind `num_ahead`."""
        interval_s = _FIRST_GUESS_S if self._interval_s is None else self._interval_s
        return min(_MAX_S, max(1, math.ceil((num_ahead + 1) * interval_s)))
