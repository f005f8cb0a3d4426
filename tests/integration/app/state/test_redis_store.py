"""What only the store in Redis must show: losing Redis, finding it again, and clean keys."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from redis.asyncio import Redis

from app.state.errors import JournalNotFoundError, StateUnavailableError
from app.state.journals import Extension, Holding, JournalPart, Lease, Terms
from app.state.rate_limits import Budget, PlaceLimit, RateLimit, Reservation
from app.state.redis import RedisStateStore
from tests.harness.redis_server import RedisServer, redis_server

LIMIT: Final = RateLimit("key", "k1", tokens_per_minute=60, burst_tokens=10)
TERMS: Final = Terms(lease_s=30, keep_s=600)
RESERVATION: Final = Reservation(
    is_allowed=True, cost_tokens=1, states=(), retry_after_s=0, limits=(LIMIT,)
)
PLACE_HELD: Final = Reservation(
    is_allowed=True,
    cost_tokens=1,
    states=(),
    retry_after_s=0,
    limits=(PlaceLimit("streams", "k1", 2),),
)

OPERATIONS: Final[dict[str, Callable[[RedisStateStore], Awaitable[object]]]] = {
    "check": lambda store: store.check(),
    "create": lambda store: create(store),
    "extend": lambda store: store.journals.extend(
        [Extension(Lease("j1", 1), 2, (b"c",))], terms=TERMS
    ),
    "read": lambda store: store.journals.read("j1", owner="me", start=0),
    "take": lambda store: store.journals.take("j1", owner="me", terms=TERMS),
    "delete": lambda store: store.journals.delete("j1", owner="me"),
    "count": lambda store: store.journals.count(),
    "reserve": lambda store: store.rate_limiter.reserve([LIMIT], 1),
    "settle": lambda store: store.rate_limiter.settle(RESERVATION, 0),
    "renew": lambda store: store.rate_limiter.renew([PLACE_HELD]),
}


async def create(store: RedisStateStore) -> None:
    """Keep a journal of two entries."""
    await store.journals.create("j1", owner="me", entries=[b"a", b"b"], terms=TERMS)


async def entries(store: RedisStateStore) -> tuple[bytes, ...]:
    """Return what is in it."""
    return (await store.journals.read("j1", owner="me", start=0)).entries


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of this test alone, which keeps its data."""
    with redis_server(keeps_data=True) as running:
        yield running


@asynccontextmanager
async def opened(url: str, timeout_s: float = 1.0) -> AsyncGenerator[RedisStateStore]:
    """A store that is closed at the end."""
    store = RedisStateStore(url, timeout_s)
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize("name", OPERATIONS)
async def test_every_operation_says_that_redis_is_gone(server: RedisServer, name: str) -> None:
    """A pool with connections to a killed Redis fails with the one typed error, and repeatedly."""
    async with opened(server.url) as store:
        await store.check()
        server.kill()

        for _ in range(2):
            with pytest.raises(StateUnavailableError):
                await OPERATIONS[name](store)


async def test_the_first_call_after_the_return_of_redis_succeeds(server: RedisServer) -> None:
    """Neither dead connections nor forgotten scripts are the caller's concern; data survives."""
    async with opened(server.url) as store:
        await create(store)
        server.kill()
        with pytest.raises(StateUnavailableError):
            await store.check()

        server.restart()

        assert await entries(store) == (b"a", b"b")
        assert (await store.rate_limiter.reserve([LIMIT], 1)).is_allowed


async def test_a_connection_closed_by_redis_is_dialled_again_unnoticed(
    shared_redis: RedisServer,
) -> None:
    """Idle connections are cut by timeouts and operators; the next call does not fail."""
    async with opened(shared_redis.url) as store, Redis.from_url(shared_redis.url) as other:
        await asyncio.gather(*(store.check() for _ in range(5)))

        await other.client_kill_filter(_type="normal", skipme=True)

        await asyncio.gather(*(store.check() for _ in range(5)))


async def test_a_frozen_redis_costs_no_more_than_the_timeout(server: RedisServer) -> None:
    """Connections that accept and never answer are given up, and used again afterwards."""
    async with opened(server.url, timeout_s=0.1) as store:
        await store.check()
        server.freeze()

        async with asyncio.timeout(2):
            with pytest.raises(StateUnavailableError, match="TimeoutError"):
                await store.check()
        server.thaw()

        await store.check()


async def test_a_caller_who_leaves_does_not_leave_an_answer_to_the_next(
    server: RedisServer,
) -> None:
    """A cancelled call gives up its connection with the reply that may still arrive on it."""
    async with opened(server.url) as store:
        await create(store)
        server.freeze()
        leaving = asyncio.create_task(store.journals.count())
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        server.thaw()

        assert await entries(store) == (b"a", b"b")


async def test_credentials_open_the_door_and_stay_out_of_errors() -> None:
    """The right password works; a wrong one is the operator's fault and is not repeated."""
    with redis_server(password="hush") as server:
        async with opened(server.url) as store:
            await store.check()

        async with opened(server.url.replace("hush", "guess")) as store:
            with pytest.raises(StateUnavailableError) as caught:
                await store.check()

    assert caught.value.reason == "AuthenticationError"
    assert "guess" not in f"{caught.value} {caught.value.__cause__} {store!r}"


async def test_two_gateways_share_one_limit(shared_redis: RedisServer) -> None:
    """What one takes is missing for the other."""
    limit = RateLimit("key", "shared", tokens_per_minute=1, burst_tokens=5)
    async with opened(shared_redis.url) as one, opened(shared_redis.url) as two:
        allowed = await one.rate_limiter.reserve([limit], 5)
        refused = await two.rate_limiter.reserve([limit], 1)

    assert (allowed.is_allowed, refused.is_allowed) == (True, False)
    assert 55 <= refused.retry_after_s <= 60


async def test_the_time_of_redis_counts_to_the_microsecond(server: RedisServer) -> None:
    """Clocks of gateways may differ: the bucket is full one second after Redis took the call."""
    async with opened(server.url) as store, Redis.from_url(server.url) as redis:
        before_s, before_us = await redis.time()
        await store.rate_limiter.reserve([LIMIT], 1)
        after_s, after_us = await redis.time()
        taken_us = int(await redis.get("swarmgate:limit:key:k1") or 0) - 1_000_000

    assert before_s * 1_000_000 + before_us <= taken_us <= after_s * 1_000_000 + after_us


async def test_every_key_is_ours_and_expires_by_itself(server: RedisServer) -> None:
    """Nothing is left behind for ever, and a bucket not for long after it is full."""
    async with opened(server.url) as store, Redis.from_url(server.url) as redis:
        await create(store)
        await store.rate_limiter.reserve([LIMIT], 10)

        ttl_s = {key: await redis.ttl(key) for key in await redis.keys("*")}

    assert set(ttl_s) == {
        b"swarmgate:journal:{j1}",
        b"swarmgate:journal:{j1}:entries",
        b"swarmgate:journal:{j1}:lease",
        b"swarmgate:limit:key:k1",
    }
    assert 0 < ttl_s[b"swarmgate:limit:key:k1"] <= 20
    assert min(ttl_s.values()) > 0


async def test_a_journal_of_which_a_half_was_evicted_is_gone(server: RedisServer) -> None:
    """A Redis short of memory loses journals, but never shows one with a hole."""
    async with opened(server.url) as store, Redis.from_url(server.url) as redis:
        await create(store)
        await redis.delete("swarmgate:journal:{j1}:entries")

        for name in ("read", "take"):
            with pytest.raises(JournalNotFoundError):
                await OPERATIONS[name](store)
        (outcome,) = await store.journals.extend(
            [Extension(Lease("j1", 1), 2, (b"c",))], terms=TERMS
        )
        assert outcome.holding is Holding.GONE
        await create(store)  # whoever wrote it puts it there again
        assert (await store.journals.read("j1", owner="me", start=0)).is_leased


async def test_a_redis_that_came_back_without_the_latest_entries_gets_them_again(
    server: RedisServer,
) -> None:
    """The outcome tells how many it has; the writer sends from there on."""
    async with opened(server.url) as store, Redis.from_url(server.url) as redis:
        await create(store)
        await redis.ltrim("swarmgate:journal:{j1}:entries", 0, 0)
        lease = Lease("j1", 1)

        (early,) = await store.journals.extend([Extension(lease, 2, (b"c",))], terms=TERMS)
        (late,) = await store.journals.extend([Extension(lease, 1, (b"b", b"c"))], terms=TERMS)

        assert (early.holding, early.num_entries, late.num_entries) == (Holding.HELD, 1, 3)
        part = await store.journals.read("j1", owner="me", start=0)
        assert part == JournalPart((b"a", b"b", b"c"), is_leased=True)


async def test_closing_twice_is_fine(shared_redis: RedisServer) -> None:
    """Shutdown may come from two sides."""
    store = RedisStateStore(shared_redis.url)
    await store.check()

    await store.close()
    await store.close()


@pytest.mark.parametrize(
    "limit",
    [
        RateLimit("key", "k1", tokens_per_minute=1, burst_tokens=100),
        Budget("key_budget", "k1", 100, window="2026-11", ends_at=4_000_000_000),
    ],
)
async def test_a_settlement_that_is_sent_twice_counts_once(
    server: RedisServer, limit: RateLimit | Budget
) -> None:
    """The first answer may have been lost on its way; another one's tokens are not given back."""
    async with opened(server.url) as store:
        first = await store.rate_limiter.reserve([limit], 40)
        await store.rate_limiter.reserve([limit], 40)
        await store.rate_limiter.settle(first, 20)

        (state,) = await store.rate_limiter.settle(first, 20)

        assert state.remaining == 40


async def test_places_that_redis_has_forgotten_are_taken_again(server: RedisServer) -> None:
    """Their streams are still open."""
    limit = PlaceLimit("key_streams", "k1", max_places=1)
    async with opened(server.url) as store, Redis.from_url(server.url) as redis:
        held = await store.rate_limiter.reserve([limit], 0)
        await redis.flushall()

        await store.rate_limiter.renew([held])

        assert not (await store.rate_limiter.reserve([limit], 0)).is_allowed
