"""What every rate limiter promises."""

import asyncio

import pytest

from app.state.errors import CostOverBurstError
from app.state.rate_limits import (
    PLACE_LEASE_S,
    Budget,
    LimitState,
    PlaceLimit,
    RateLimit,
    RequestLimit,
)
from tests.integration.app.state.store_under_test import StoreUnderTest

KEY = RateLimit("key", "k1", tokens_per_minute=60, burst_tokens=10)
ADDRESS = RateLimit("address", "a1", tokens_per_minute=600, burst_tokens=30)


async def remaining(store: StoreUnderTest, limit: RateLimit) -> int:
    """Return what is left in the bucket."""
    reservation = await store.rate_limiter.reserve([limit], 0)
    return reservation.states[0].remaining


async def test_an_allowed_request_is_charged_to_every_limit(store: StoreUnderTest) -> None:
    """The answer carries the numbers of each limit, in the order asked."""
    reservation = await store.rate_limiter.reserve([KEY, ADDRESS], 4)

    assert (reservation.is_allowed, reservation.retry_after_s) == (True, 0)
    assert (reservation.cost_tokens, reservation.limits) == (4, (KEY, ADDRESS))
    assert reservation.states == (
        LimitState("key", "tokens", limit=10, remaining=6, reset_s=4),
        LimitState("address", "tokens", limit=30, remaining=26, reset_s=1),
    )


async def test_a_refused_request_is_charged_to_no_limit(store: StoreUnderTest) -> None:
    """The wait is that of the limit that refuses."""
    await store.rate_limiter.reserve([KEY], 8)

    reservation = await store.rate_limiter.reserve([ADDRESS, KEY], 5)

    assert not reservation.is_allowed
    assert reservation.retry_after_s == 3
    assert [state.remaining for state in reservation.states] == [30, 2]
    assert await remaining(store, ADDRESS) == 30


async def test_a_caller_who_waits_as_told_passes(store: StoreUnderTest) -> None:
    """One second less is too early."""
    await store.rate_limiter.reserve([KEY], 10)
    refused = await store.rate_limiter.reserve([KEY], 7)

    await store.pass_time(refused.retry_after_s - 1)
    assert not (await store.rate_limiter.reserve([KEY], 7)).is_allowed
    await store.pass_time(1)

    assert (await store.rate_limiter.reserve([KEY], 7)).is_allowed


async def test_an_idle_bucket_is_full_and_no_fuller(store: StoreUnderTest) -> None:
    """An hour of silence earns one burst."""
    await store.rate_limiter.reserve([KEY], 10)

    await store.pass_time(3600)

    assert await remaining(store, KEY) == 10


async def test_unused_tokens_come_back(store: StoreUnderTest) -> None:
    """A request that used 1 of 8 tokens leaves 9 of 10."""
    reservation = await store.rate_limiter.reserve([KEY, ADDRESS], 8)

    states = await store.rate_limiter.settle(reservation, 1)

    assert [state.remaining for state in states] == [9, 29]
    assert await remaining(store, KEY) == 9


async def test_tokens_come_back_late_without_filling_beyond_the_burst(
    store: StoreUnderTest,
) -> None:
    """What the bucket regained by itself is not given twice."""
    reservation = await store.rate_limiter.reserve([KEY], 8)
    await store.pass_time(6)

    (state,) = await store.rate_limiter.settle(reservation, 0)

    assert (state.remaining, state.reset_s) == (10, 0)


async def test_more_than_reserved_is_charged_too(store: StoreUnderTest) -> None:
    """A debt delays the next request, and is told as nothing remaining."""
    reservation = await store.rate_limiter.reserve([KEY], 8)

    (state,) = await store.rate_limiter.settle(reservation, 15)

    assert (state.remaining, state.reset_s) == (0, 15)
    assert (await store.rate_limiter.reserve([KEY], 1)).retry_after_s == 6


async def test_a_refused_reservation_gives_nothing_back(store: StoreUnderTest) -> None:
    """Settling what was never charged changes nothing."""
    await store.rate_limiter.reserve([KEY], 10)
    refused = await store.rate_limiter.reserve([KEY], 5)

    states = await store.rate_limiter.settle(refused, 0)

    assert states == refused.states
    assert await remaining(store, KEY) == 0


async def test_a_cost_over_the_burst_raises_and_charges_nothing(store: StoreUnderTest) -> None:
    """The other limits of the request are left alone as well."""
    with pytest.raises(CostOverBurstError) as caught:
        await store.rate_limiter.reserve([ADDRESS, KEY], 11)

    assert (caught.value.limit_name, caught.value.burst_tokens) == ("key", 10)
    assert await remaining(store, ADDRESS) == 30


async def test_without_limits_everything_passes(store: StoreUnderTest) -> None:
    """A gateway without limits asks all the same."""
    reservation = await store.rate_limiter.reserve([], 1_000_000_000)

    assert reservation.is_allowed
    assert await store.rate_limiter.settle(reservation, 5) == ()


async def test_subjects_and_names_have_buckets_of_their_own(store: StoreUnderTest) -> None:
    """Emptying one leaves its neighbours full."""
    await store.rate_limiter.reserve([KEY], 10)

    assert await remaining(store, RateLimit("key", "k2", 60, 10)) == 10
    assert await remaining(store, RateLimit("address", "k1", 60, 10)) == 10


async def test_a_crowd_at_once_gets_exactly_the_burst(store: StoreUnderTest) -> None:
    """Sixty requests at the same moment share ten tokens."""
    crowd = [store.rate_limiter.reserve([KEY], 1) for _ in range(60)]

    reservations = await asyncio.gather(*crowd)

    assert sum(reservation.is_allowed for reservation in reservations) == 10


REQUESTS = RequestLimit("key_requests", "k1", requests_per_minute=6)
PLACES = PlaceLimit("key_streams", "k1", max_places=2)


async def test_requests_are_counted_whatever_they_cost(store: StoreUnderTest) -> None:
    """What a request has taken does not come back when it is settled."""
    for _ in range(6):
        reservation = await store.rate_limiter.reserve([REQUESTS], 5)
        await store.rate_limiter.settle(reservation, 0)

    refused = await store.rate_limiter.reserve([REQUESTS], 0)

    assert refused.refused_by == REQUESTS
    assert refused.retry_after_s == 10
    assert refused.states == (LimitState("key_requests", "requests", 6, 0, 60),)


async def test_a_budget_is_used_up_until_its_window_ends(store: StoreUnderTest) -> None:
    """Time alone brings nothing back; the next window is another budget."""
    ends_at = store.clock.now_us // 1_000_000 + 3600
    budget = Budget("key_budget", "k1", 100, window="2026-11", ends_at=ends_at)
    reservation = await store.rate_limiter.reserve([budget], 90)
    (state,) = await store.rate_limiter.settle(reservation, 60)
    await store.pass_time(600)

    refused = await store.rate_limiter.reserve([budget], 41)

    assert state == LimitState("key_budget", "tokens", 100, 40, 3600)
    assert (refused.refused_by, refused.retry_after_s) == (budget, 3000)
    following = Budget("key_budget", "k1", 100, window="2026-12", ends_at=ends_at + 3600)
    assert (await store.rate_limiter.reserve([following], 100)).is_allowed


async def test_a_place_is_held_until_its_request_ends(store: StoreUnderTest) -> None:
    """The third of two has to wait."""
    first = await store.rate_limiter.reserve([PLACES], 0)
    await store.rate_limiter.reserve([PLACES], 0)

    refused = await store.rate_limiter.reserve([PLACES, KEY], 1)
    await store.rate_limiter.settle(first, 0)

    assert (refused.refused_by, refused.retry_after_s) == (PLACES, 1)
    assert (await store.rate_limiter.reserve([PLACES], 0)).is_allowed
    assert await remaining(store, KEY) == 10


async def test_places_of_a_gateway_that_died_become_free(store: StoreUnderTest) -> None:
    """One that is renewed stays taken; a refused request takes none."""
    held = await store.rate_limiter.reserve([PLACES], 0)
    await store.rate_limiter.reserve([PLACES], 0)
    await store.pass_time(PLACE_LEASE_S - 1)
    await store.rate_limiter.renew([held])

    await store.pass_time(1)

    (state,) = (await store.rate_limiter.reserve([PLACES], 0)).states
    assert state.remaining == 0
    assert not (await store.rate_limiter.reserve([PLACES], 0)).is_allowed


async def test_a_budget_is_kept_for_gateways_whose_clocks_lag(store: StoreUnderTest) -> None:
    """Asked after its window, a spent one asks for a second; a day later it is gone."""
    ends_at = store.clock.now_us // 1_000_000 + 60
    budget = Budget("key_budget", "k1", 100, window="2026-11", ends_at=ends_at)
    await store.rate_limiter.reserve([budget], 100)

    store.clock.now_us += 61 * 1_000_000
    late = await store.rate_limiter.reserve([budget], 1)
    store.clock.now_us += 86_400 * 1_000_000
    much_later = await store.rate_limiter.reserve([budget], 1)

    assert (late.refused_by, late.retry_after_s) == (budget, 1)
    assert much_later.is_allowed


async def test_one_who_lost_a_place_leaves_that_of_another_alone(store: StoreUnderTest) -> None:
    """What is told after a late settlement is what others hold."""
    lost = await store.rate_limiter.reserve([PLACES], 0)
    await store.pass_time(PLACE_LEASE_S)
    await store.rate_limiter.reserve([PLACES], 0)

    (state,) = await store.rate_limiter.settle(lost, 0)

    assert state.remaining == 1
