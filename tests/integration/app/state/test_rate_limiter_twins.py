"""The limiters in memory and in Redis are twins."""

import time
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from app.state.rate_limits import (
    MAX_TOKENS,
    Budget,
    Limit,
    PlaceLimit,
    RateLimit,
    RequestLimit,
    Reservation,
)
from tests.harness.redis_server import RedisServer
from tests.integration.app.state.store_under_test import (
    memory_store_under_test,
    redis_store_under_test,
)

# Slow and fast, small and the largest that is allowed, intervals that divide evenly and do not.
LIMITS = (
    RateLimit("key", "small", tokens_per_minute=7, burst_tokens=10),
    RateLimit("key", "fast", tokens_per_minute=MAX_TOKENS, burst_tokens=100),
    RateLimit("address", "huge", tokens_per_minute=1, burst_tokens=MAX_TOKENS),
    RateLimit("address", "even", tokens_per_minute=60, burst_tokens=20),
    RequestLimit("requests", "few", requests_per_minute=3),
    RequestLimit("requests", "many", requests_per_minute=MAX_TOKENS),
    Budget("month", "small", 40, window="1", ends_at=int(time.time()) + 100_000),
    Budget("month", "large", 2**50, window="1", ends_at=int(time.time()) + 1_000_000),
    PlaceLimit("streams", "one", max_places=1),
    PlaceLimit("streams", "two", max_places=2),
)


@dataclass(frozen=True, slots=True)
class Reserve:
    """Ask for tokens; the cost is cut to what the limits can ever grant."""

    limits: tuple[Limit, ...]
    cost_tokens: int


@dataclass(frozen=True, slots=True)
class Renew:
    """Hold on to the places of all open reservations."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Settle the oldest open reservation."""

    used_tokens: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Let time pass."""

    pause_us: int


token_counts = st.integers(0, 25) | st.integers(0, MAX_TOKENS)
steps = st.lists(
    st.builds(
        Reserve,
        st.lists(st.sampled_from(LIMITS), min_size=1, unique=True).map(tuple),
        token_counts,
    )
    | st.builds(Settle, token_counts)
    | st.builds(Renew)
    | st.builds(Wait, st.integers(0, 30_000_000) | st.integers(0, 10**12)),
    max_size=40,
)


@settings(deadline=None, max_examples=80)
@given(steps=steps)
async def test_both_limiters_give_the_same_answers_to_any_sequence_of_calls(
    shared_redis: RedisServer, steps: list[Reserve | Settle | Renew | Wait]
) -> None:
    """Every number of every answer is equal, to the microsecond that decides it."""
    async with (
        memory_store_under_test() as memory,
        redis_store_under_test(shared_redis.url) as redis,
    ):
        redis.clock.now_us = memory.clock.now_us
        opened: list[tuple[Reservation, Reservation]] = []
        for step in steps:
            match step:
                case Reserve(limits, wanted):
                    cost = min([wanted, *map(_largest_cost, limits)])
                    here = await memory.rate_limiter.reserve(limits, cost)
                    there = await redis.rate_limiter.reserve(limits, cost)
                    assert there == here
                    opened.append((here, there))
                case Settle(used) if opened:
                    here, there = opened.pop(0)
                    states = await memory.rate_limiter.settle(here, used)
                    assert await redis.rate_limiter.settle(there, used) == states
                case Settle():
                    pass
                case Renew():
                    allowed = [pair for pair in opened if pair[0].is_allowed]
                    await memory.rate_limiter.renew([here for here, _ in allowed])
                    await redis.rate_limiter.renew([there for _, there in allowed])
                case Wait(pause_us):
                    memory.clock.now_us += pause_us
                    redis.clock.now_us += pause_us


def _largest_cost(limit: Limit) -> int:
    match limit:
        case RateLimit():
            return limit.burst_tokens
        case Budget():
            return limit.max_tokens
        case _:
            return MAX_TOKENS
