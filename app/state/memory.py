"""The store of a gateway that runs alone: everything in this process, nothing survives it."""

import time
from collections.abc import Callable

from app.state.memory_board import MemoryWorkerBoard
from app.state.memory_journals import MemoryJournalStore
from app.state.memory_limiter import MemoryRateLimiter


class MemoryStateStore:
    """Journals and rate limits in memory, bounded.

    When a bound is reached, what would expire soonest is forgotten.

    Args:
        clock: returns UTC seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.journals = MemoryJournalStore(clock)
        self.rate_limiter = MemoryRateLimiter(clock)
        self.board = MemoryWorkerBoard(clock)

    async def check(self) -> None:
        """Return at once: memory is always there."""

    async def close(self) -> None:
        """Do nothing: the contents go with the object."""
