"""Limits while Redis is killed, frozen and back."""

from collections.abc import AsyncGenerator, Iterator

import pytest

from app.state.backoff import Backoff
from app.state.errors import StateUnavailableError
from app.state.fallback_limiter import FallbackRateLimiter
from app.state.rate_limits import Budget, Limit, PlaceLimit, RateLimit, RequestLimit
from app.state.redis import RedisStateStore
from tests.harness.redis_server import RedisServer, redis_server

TOKENS = RateLimit("key", "k1", tokens_per_minute=1, burst_tokens=100)
REQUESTS = RequestLimit("key_requests", "k1", requests_per_minute=8)
BUDGET = Budget("key_budget", "k1", 1000, window="2026-11", ends_at=4_000_000_000)
PLACES = PlaceLimit("key_streams", "k1", max_places=4)
NO_PAUSE = 0.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of this test alone, which keeps its data."""
    with redis_server(keeps_data=True) as running:
        yield running


@pytest.fixture
async def store(server: RedisServer) -> AsyncGenerator[RedisStateStore]:
    """The shared store."""
    store = RedisStateStore(server.url)
    yield store
    await store.close()


def _limiter(store: RedisStateStore, fraction: float = 0.25) -> FallbackRateLimiter:
    return FallbackRateLimiter(store.rate_limiter, fraction, backoff=Backoff(NO_PAUSE, NO_PAUSE))


async def _num_allowed(limiter: FallbackRateLimiter, limit: Limit, cost: int, tries: int) -> int:
    reservations = [await limiter.reserve([limit], cost) for _ in range(tries)]
    return sum(reservation.is_allowed for reservation in reservations)


@pytest.mark.parametrize(("limit", "num"), [(TOKENS, 2), (REQUESTS, 2), (PLACES, 1), (BUDGET, 25)])
async def test_fraction_of_each_limit_is_granted_while_redis_is_dead(
    server: RedisServer, store: RedisStateStore, limit: Limit, num: int
) -> None:
    """A quarter, in requests of ten tokens."""
    server.kill()

    assert await _num_allowed(_limiter(store), limit, 10, 30) == num


async def test_large_request_still_fits_alone(server: RedisServer, store: RedisStateStore) -> None:
    """It is not refused for good because Redis is away."""
    limiter = _limiter(store)
    server.kill()

    assert await _num_allowed(limiter, TOKENS, 90, 2) == 1


async def test_without_a_fraction_nothing_is_granted(
    server: RedisServer, store: RedisStateStore
) -> None:
    """Fail closed."""
    server.kill()

    with pytest.raises(StateUnavailableError):
        await _limiter(store, fraction=0).reserve([TOKENS], 10)


async def test_what_was_used_meanwhile_is_taken_from_the_budget_later(
    server: RedisServer, store: RedisStateStore
) -> None:
    """And once only, however often it is tried."""
    limiter = _limiter(store)
    server.kill()
    local = await limiter.reserve([BUDGET], 100)
    await limiter.settle(local, 60)
    with pytest.raises(StateUnavailableError):
        await limiter.renew([])

    server.restart()
    await limiter.renew([])
    await limiter.renew([])

    (state,) = (await limiter.reserve([BUDGET], 0)).states
    assert state.remaining == 940


async def test_reservation_of_before_is_settled_after(
    server: RedisServer, store: RedisStateStore
) -> None:
    """Unused tokens come back although Redis was away when the request ended."""
    limiter = _limiter(store)
    reservation = await limiter.reserve([BUDGET, PLACES], 100)
    server.kill()
    await limiter.settle(reservation, 10)

    server.restart()
    await limiter.renew([])

    budget, places = (await limiter.reserve([BUDGET, PLACES], 0)).states
    assert (budget.remaining, places.remaining) == (990, 3)


async def test_redis_is_asked_again_once_it_is_back(
    server: RedisServer, store: RedisStateStore
) -> None:
    """From then on its own limits count."""
    limiter = _limiter(store)
    await limiter.reserve([TOKENS], 10)
    server.kill()
    await limiter.reserve([TOKENS], 10)

    server.restart()

    (state,) = (await limiter.reserve([TOKENS], 0)).states
    assert (state.limit, state.remaining) == (100, 90)


async def test_frozen_redis_delays_one_request_and_not_all(server: RedisServer) -> None:
    """The others are decided here until it is time to try again."""
    store = RedisStateStore(server.url, timeout_s=0.05)
    limiter = FallbackRateLimiter(store.rate_limiter, 0.5, backoff=Backoff(1000, 1000))
    server.freeze()
    try:
        assert await _num_allowed(limiter, TOKENS, 1, 60) == 50
    finally:
        server.thaw()
        await store.close()
