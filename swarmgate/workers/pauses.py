"""How long to wait before a worker that has ended is started again. Pure."""

from typing import Final

_FIRST_S: Final = 0.2
_LONGEST_S: Final = 30.0
_HEALTHY_S: Final = 60.0
"""A worker that has lived for so long has not ended for the reason that ended the last one."""


class Pauses:
    """The pauses of one worker: twice as long after each short life."""

    def __init__(self) -> None:
        self._next_s = _FIRST_S

    def after(self, lived_s: float) -> float:
        """Return the pause after a life of so many seconds, loading included."""
        if lived_s >= _HEALTHY_S:
            self._next_s = _FIRST_S
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, _LONGEST_S)
        return pause_s
