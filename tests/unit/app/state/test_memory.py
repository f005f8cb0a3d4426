"""What only the store in memory promises: bounds. The rest is in the contract tests."""

import pytest

from app.state.conversations import ConversationRecord
from app.state.errors import ConversationNotFoundError
from app.state.memory import MemoryConversationStore, MemoryRateLimiter
from app.state.rate_limits import RateLimit


def conversation(conversation_id: str, expires_at: float) -> ConversationRecord:
    """Return an empty conversation."""
    return ConversationRecord(conversation_id, "me", "demo", 8, (), 0, expires_at)


async def test_a_full_store_forgets_the_conversation_that_would_expire_first() -> None:
    """Memory is bounded whatever callers open."""
    store = MemoryConversationStore(clock=lambda: 0.0, max_conversations=2)

    for conversation_id, expires_at in (("a", 20), ("b", 10), ("c", 30)):
        await store.create(conversation(conversation_id, expires_at))

    assert await store.count() == 2
    with pytest.raises(ConversationNotFoundError):
        await store.get("b", owner="me")


async def test_a_full_limiter_forgets_the_bucket_that_is_closest_to_full() -> None:
    """Subjects beyond the bound cost the least possible precision."""
    limiter = MemoryRateLimiter(clock=lambda: 0.0, max_buckets=2)
    limits = {name: RateLimit("key", name, 60, 10) for name in "abc"}

    for name, cost in (("a", 9), ("b", 1), ("c", 5)):
        await limiter.reserve([limits[name]], cost)

    left = [(await limiter.reserve([limits[name]], 0)).states[0] for name in "abc"]
    assert [state.remaining_tokens for state in left] == [1, 10, 5]
