"""What only the store in memory promises: bounds. The rest is in the contract tests."""

import pytest

from app.state.errors import JournalNotFoundError
from app.state.journals import Terms
from app.state.memory_journals import MemoryJournalStore
from app.state.memory_limiter import MemoryRateLimiter
from app.state.rate_limits import RateLimit


async def test_a_full_store_forgets_the_journal_that_would_expire_first() -> None:
    """Memory is bounded whatever callers ask."""
    store = MemoryJournalStore(clock=lambda: 0.0, max_journals=2)

    for journal_id, keep_s in (("a", 20), ("b", 10), ("c", 30)):
        terms = Terms(lease_s=1, keep_s=keep_s)
        await store.create(journal_id, owner="me", entries=[b"x"], terms=terms)

    assert await store.count() == 2
    with pytest.raises(JournalNotFoundError):
        await store.read("b", owner="me", start=0)


async def test_a_full_limiter_forgets_the_bucket_that_is_closest_to_full() -> None:
    """Subjects beyond the bound cost the least possible precision."""
    limiter = MemoryRateLimiter(clock=lambda: 0.0, max_limits=2)
    limits = {name: RateLimit("key", name, 60, 10) for name in "abc"}

    for name, cost in (("a", 9), ("b", 1), ("c", 5)):
        await limiter.reserve([limits[name]], cost)

    left = [(await limiter.reserve([limits[name]], 0)).states[0] for name in "abc"]
    assert [state.remaining for state in left] == [1, 10, 5]
