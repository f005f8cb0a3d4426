"""The choice of the store."""

import pytest

from app.state.errors import InvalidStateUrlError
from app.state.memory import MemoryStateStore
from app.state.redis import RedisStateStore
from app.state.store import open_state_store


async def test_without_an_address_state_lives_in_memory() -> None:
    """No Redis is needed to run one gateway."""
    store = open_state_store(None)

    await store.check()
    await store.close()

    assert isinstance(store, MemoryStateStore)


async def test_opening_a_redis_store_dials_nothing() -> None:
    """A gateway starts while its Redis is away."""
    store = open_state_store("redis://127.0.0.1:1/0")

    await store.close()

    assert isinstance(store, RedisStateStore)


@pytest.mark.parametrize(
    "url",
    ["redis://me:hush/hush@localhost:6379", "http://me:hush@localhost", "redis://:hush@h:99999"],
)
def test_a_bad_address_is_refused_without_repeating_it(url: str) -> None:
    """Neither the error nor what caused it shows a password."""
    with pytest.raises(InvalidStateUrlError) as caught:
        open_state_store(url)

    assert "hush" not in str(caught.value)
    assert caught.value.__suppress_context__
