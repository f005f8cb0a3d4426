"""What every store of keys promises."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from app.keys.errors import KeyNotFoundError
from app.keys.registry import KeyDraft, KeyRegistry
from app.keys.store import KeyStore, open_key_store
from tests.harness.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    """One Redis for all."""
    with redis_server(keeps_data=True) as server:
        yield server


@pytest.fixture(params=["file", "redis"])
async def store(
    request: pytest.FixtureRequest, shared_redis: RedisServer, tmp_path: Path
) -> AsyncGenerator[KeyStore]:
    """Each store in turn, empty."""
    async with Redis.from_url(shared_redis.url) as redis:
        await redis.flushall()
    is_file = request.param == "file"
    opened = open_key_store(shared_redis.url, tmp_path / "keys.json" if is_file else None)
    assert opened is not None
    yield opened
    await opened.close()


async def test_keys_are_found_as_they_were_made(store: KeyStore) -> None:
    """Oldest first."""
    times = iter([100.0, 200.0])
    registry = KeyRegistry(store, lambda: next(times))
    assert not await store.find_all()

    one = await registry.create(KeyDraft(name="one"))
    two = await registry.create(KeyDraft(name="two", expires_in_s=60))

    assert await registry.find(one.record.id) == one.record
    assert list(await registry.find_all()) == [one.record, two.record]
    assert two.record.expires_at == 260


async def test_only_hashes_are_stored(store: KeyStore) -> None:
    """Neither the text nor its secret part is in a record."""
    new = await KeyRegistry(store).create(KeyDraft(name="one"))

    record = await store.find(new.record.id)

    secret = new.text.removeprefix(f"sg_{new.record.id}_")  # may hold "_" itself
    assert record is not None
    assert len(secret) == 43
    assert secret not in record.model_dump_json()


async def test_unknown_ids_are_not_found(store: KeyStore) -> None:
    """Nothing is made of them."""
    registry = KeyRegistry(store)

    for call in (registry.find, registry.revoke, registry.rotate):
        with pytest.raises(KeyNotFoundError):
            await call("0" * 16)
    assert not await store.find_all()


async def test_revoked_keys_stay_revoked(store: KeyStore) -> None:
    """They cannot be rotated back to life, and their end does not move."""
    times = iter([100.0, 200.0, 300.0, 400.0])
    registry = KeyRegistry(store, lambda: next(times))
    new = await registry.create(KeyDraft(name="one"))

    await registry.revoke(new.record.id)
    again = await registry.revoke(new.record.id)

    assert again.revoked_at == 200
    with pytest.raises(KeyNotFoundError):
        await registry.rotate(new.record.id)


async def test_changes_at_the_same_time_are_all_made(store: KeyStore) -> None:
    """Each begins anew when it was overtaken."""
    registry = KeyRegistry(store)
    new = await registry.create(KeyDraft(name="one"))

    rotations = [registry.rotate(new.record.id, grace_s=60) for _ in range(5)]
    await asyncio.gather(*rotations, registry.revoke(new.record.id), return_exceptions=True)

    record = await registry.find(new.record.id)
    assert record.revoked_at is not None
    assert record.version == len(record.secrets) + 1


async def test_a_change_to_an_outdated_record_is_not_made(store: KeyStore) -> None:
    """Whoever was faster wins."""
    new = (await KeyRegistry(store).create(KeyDraft(name="one"))).record
    changed = new.model_copy(update={"version": 2, "name": "two"})
    await store.replace(new, changed)

    assert not await store.replace(new, new.model_copy(update={"version": 2, "name": "three"}))
    assert not await store.replace(None, new)
    assert await store.find(new.id) == changed
