"""A store in memory that two gateways or keepers of one test use, as workers use Redis."""

import time
from collections.abc import Callable

from app.state.memory import MemoryStateStore
from app.state.memory_journals import MemoryJournalStore


class SharedJournalStore(MemoryJournalStore):
    """Is told of journals while they are written."""

    is_shared = True


def shared_store(clock: Callable[[], float] = time.time) -> MemoryStateStore:
    """Return a store for several gateways."""
    store = MemoryStateStore(clock)
    store.journals = SharedJournalStore(clock)
    return store
