"""What one call does to each limit."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.state import charges, gcra
from app.state.charges import Charge, Decision, Kind
from app.state.errors import CostOverBurstError
from app.state.rate_limits import MAX_TOKENS, RateLimit

_NOW_US = 1_700_000_000_000_000
_YEAR_2100_US = 4_102_444_800_000_000

limits = st.builds(
    RateLimit,
    name=st.just("key"),
    subject=st.just("a"),
    tokens_per_minute=st.integers(1, MAX_TOKENS) | st.sampled_from([1, 7, 60, MAX_TOKENS]),
    burst_tokens=st.integers(1, MAX_TOKENS) | st.integers(1, 20),
)
# Buckets of a few microseconds, so that hypothesis meets every edge.
small_buckets = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 10), st.integers(1, 20)), max_size=4
)


def take(limit: RateLimit, cost: int, full_at_us: int = 0, now_us: int = _NOW_US) -> Decision:
    """Decide on one request to one bucket."""
    return charges.decide([full_at_us], charges.charges_to_reserve([limit], cost), now_us)


def settle(limit: RateLimit, cost: int, used: int, full_at_us: int) -> Decision:
    """Settle a granted request to one bucket."""
    reservation = charges.reservation_of(
        [limit], cost, Decision((full_at_us,), (0,), _NOW_US), "id"
    )
    return charges.settle([full_at_us], charges.charges_to_settle(reservation, used), _NOW_US)


def test_a_full_bucket_grants_its_burst_and_not_one_token_more() -> None:
    """Ten tokens go at once; the eleventh waits one refill interval."""
    limit = RateLimit("key", "a", tokens_per_minute=60, burst_tokens=10)

    empty = take(limit, 10)
    refused = take(limit, 1, empty.values[0])

    assert empty.wait_us == 0
    assert refused.wait_us == gcra.MICROSECONDS_PER_S


def test_a_cost_over_the_burst_is_an_error_and_not_a_wait() -> None:
    """Waiting cannot help a request that a full bucket cannot pay."""
    limit = RateLimit("address", "a", tokens_per_minute=60, burst_tokens=10)

    with pytest.raises(CostOverBurstError, match="limit per address never allows more than 10"):
        charges.charges_to_reserve([limit], 11)


@pytest.mark.parametrize("amount", [0, -1, MAX_TOKENS + 1])
def test_a_limit_outside_the_exact_numbers_is_refused(amount: int) -> None:
    """Rate and burst must be from 1 to the largest that doubles count exactly."""
    with pytest.raises(ValueError, match="tokens_per_minute must be from 1"):
        RateLimit("key", "a", tokens_per_minute=amount, burst_tokens=1)
    with pytest.raises(ValueError, match="burst_tokens must be from 1"):
        RateLimit("key", "a", tokens_per_minute=1, burst_tokens=amount)


def test_negative_costs_and_uses_are_refused() -> None:
    """Nobody can fill a bucket by asking for less than nothing."""
    limit = RateLimit("key", "a", tokens_per_minute=60, burst_tokens=10)
    reservation = charges.reservation_of([limit], 1, take(limit, 1), "id")

    with pytest.raises(ValueError, match="costs 0 tokens or more"):
        charges.charges_to_reserve([limit], -1)
    with pytest.raises(ValueError, match="uses 0 tokens or more"):
        charges.charges_to_settle(reservation, -1)


@given(
    limit=limits,
    requests=st.lists(
        st.tuples(st.integers(0, 3 * 60_000_000), st.integers(0, MAX_TOKENS)), max_size=30
    ),
)
def test_no_window_grants_more_than_burst_and_refill(
    limit: RateLimit, requests: list[tuple[int, int]]
) -> None:
    """Over any window, granted tokens are at most burst + rate * window, to the microsecond."""
    now_us, full_at_us, granted = _NOW_US, 0, list[tuple[int, int]]()
    for pause_us, wanted in requests:
        now_us, cost = now_us + pause_us, min(wanted, limit.burst_tokens)
        decision = take(limit, cost, full_at_us, now_us)
        full_at_us = decision.values[0]
        granted += [(now_us, cost)] if decision.wait_us == 0 else []

    for first, (start_us, _) in enumerate(granted):
        total = 0
        for end_us, cost in granted[first:]:
            total += cost
            refill = limit.tokens_per_minute * (end_us - start_us + 1)
            assert total * 60_000_000 <= limit.burst_tokens * 60_000_000 + refill


@given(
    burst_us=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 9), st.integers(-20, 20)), max_size=30),
)
def test_what_comes_back_is_granted_once_and_never_twice(
    burst_us: int, steps: list[tuple[int, int]]
) -> None:
    """Over any window, grants less give-backs are at most burst + window, in microseconds."""
    now_us, full_at_us, log = 0, 0, list[tuple[int, int]]()
    for pause_us, amount_us in steps:
        now_us += pause_us
        step = charges.decide if amount_us >= 0 else charges.settle
        decision = step([full_at_us], [Charge(Kind.BUCKET, amount_us, burst_us)], now_us)
        full_at_us = decision.values[0]
        log += [(now_us, amount_us)] if decision.wait_us == 0 else []

    for first, (start_us, _) in enumerate(log):
        total = 0
        for end_us, amount_us in log[first:]:
            total += amount_us
            assert total <= burst_us + end_us - start_us


@given(limit=limits, data=st.data())
def test_settling_leaves_what_reserving_the_used_tokens_would_have_left(
    limit: RateLimit, data: st.DataObject
) -> None:
    """Unused tokens come back exactly, to the microsecond."""
    cost = data.draw(st.integers(0, limit.burst_tokens))
    used = data.draw(st.integers(0, cost))

    settled = settle(limit, cost, used, take(limit, cost).values[0])

    assert settled == take(limit, used)


@given(limit=limits, used=st.integers(0, 3 * MAX_TOKENS))
def test_using_more_than_reserved_is_charged_up_to_a_debt_of_one_burst(
    limit: RateLimit, used: int
) -> None:
    """It counts from now, and locks nobody out for longer than two bursts take to refill."""
    settled = settle(limit, 0, used, full_at_us=_NOW_US - 10)

    charge_us = gcra.refill_us(min(used, MAX_TOKENS), limit.tokens_per_minute)
    debt_us = 2 * gcra.refill_us(limit.burst_tokens, limit.tokens_per_minute)
    assert settled.values[0] - _NOW_US == min(charge_us, debt_us)


@given(buckets=small_buckets, now_us=st.integers(0, 40))
def test_all_buckets_are_charged_or_none(buckets: list[tuple[int, int, int]], now_us: int) -> None:
    """One bucket without room leaves the others as they were."""
    full_at_us = [full_at for full_at, _, _ in buckets]
    wanted = [Charge(Kind.BUCKET, amount, ceiling) for _, amount, ceiling in buckets]

    decision = charges.decide(full_at_us, wanted, now_us)

    before = tuple(max(full_at, now_us) for full_at in full_at_us)
    amounts = {after - full_at for after, full_at in zip(decision.values, before, strict=True)}
    assert amounts <= {0} or decision.wait_us == 0
    assert decision.wait_us > 0 or decision.values == tuple(
        full_at + charge.amount for full_at, charge in zip(before, wanted, strict=True)
    )


@given(buckets=small_buckets, now_us=st.integers(0, 40))
def test_the_order_of_the_limits_does_not_matter(
    buckets: list[tuple[int, int, int]], now_us: int
) -> None:
    """Every order gives the same wait and the same buckets."""
    outcomes = set()
    for order in permutations(buckets):
        wanted = [Charge(Kind.BUCKET, amount, ceiling) for _, amount, ceiling in order]
        decision = charges.decide([full_at for full_at, _, _ in order], wanted, now_us)
        after = zip(order, decision.values, strict=True)
        outcomes.add((decision.wait_us, tuple(sorted(after))))

    assert len(outcomes) == 1


@given(bucket=st.tuples(st.integers(0, 30), st.integers(1, 10), st.integers(10, 20)))
def test_the_wait_is_exact(bucket: tuple[int, int, int]) -> None:
    """After the wait the request passes; a microsecond earlier it does not."""
    full_at_us, amount_us, ceiling_us = bucket
    wanted = [Charge(Kind.BUCKET, amount_us, ceiling_us)]

    wait_us = charges.decide([full_at_us], wanted, now_us=0).wait_us

    assert charges.decide([full_at_us], wanted, wait_us).wait_us == 0
    if wait_us > 0:
        assert charges.decide([full_at_us], wanted, wait_us - 1).wait_us == 1


@given(limit=limits, data=st.data())
def test_remaining_is_the_largest_cost_that_would_pass(
    limit: RateLimit, data: st.DataObject
) -> None:
    """The number told to callers can be taken, and one more cannot."""
    taken = take(limit, data.draw(st.integers(0, limit.burst_tokens)))

    (state,) = charges.states_of([limit], taken)

    assert take(limit, state.remaining, taken.values[0]).wait_us == 0
    if state.remaining < limit.burst_tokens:
        assert take(limit, state.remaining + 1, taken.values[0]).wait_us > 0


def test_seconds_for_callers_are_rounded_up() -> None:
    """A caller who waits as told is never too early."""
    limit = RateLimit("key", "a", tokens_per_minute=60, burst_tokens=10)
    refused = Decision((_NOW_US + 9_000_001,), (2_000_001,), _NOW_US)

    reservation = charges.reservation_of([limit], 4, refused, "id")

    assert reservation.retry_after_s == 3
    assert reservation.states[0].reset_s == 10
    assert reservation.states[0].remaining == 0


@given(limit=limits)
def test_every_number_is_exact_in_a_double(limit: RateLimit) -> None:
    """The largest sum the script can meet in the year 2100 stays below 2**53."""
    burst_us = gcra.refill_us(limit.burst_tokens, limit.tokens_per_minute)

    most = _YEAR_2100_US + 2 * burst_us + gcra.refill_us(MAX_TOKENS, limit.tokens_per_minute)

    assert most < 2**53


@given(limit=limits, data=st.data())
def test_waiting_exactly_as_told_is_enough_and_a_second_less_is_not(
    limit: RateLimit, data: st.DataObject
) -> None:
    """What `Retry-After` says is right to the second."""
    taken = take(limit, data.draw(st.integers(0, limit.burst_tokens)))
    cost, now_us = data.draw(st.integers(1, limit.burst_tokens)), _NOW_US
    wanted = charges.charges_to_reserve([limit], cost)
    decision = charges.decide(taken.values, wanted, now_us)
    retry_after_s = charges.reservation_of([limit], cost, decision, "id").retry_after_s

    def is_allowed_after(seconds: int) -> bool:
        later_us = now_us + seconds * gcra.MICROSECONDS_PER_S
        return charges.decide(taken.values, wanted, later_us).wait_us == 0

    assert is_allowed_after(retry_after_s)
    assert retry_after_s == 0 or not is_allowed_after(retry_after_s - 1)


@given(limit=limits, cost=st.integers(1, MAX_TOKENS))
def test_a_bucket_is_full_at_its_reset_and_not_a_second_before(limit: RateLimit, cost: int) -> None:
    """What `x-ratelimit-reset-tokens` says is right to the second."""
    taken = take(limit, min(cost, limit.burst_tokens))
    (state,) = charges.states_of([limit], taken)

    def remaining_after(seconds: int) -> int:
        later_us = _NOW_US + seconds * gcra.MICROSECONDS_PER_S
        later = charges.decide(taken.values, charges.charges_to_reserve([limit], 0), later_us)
        return charges.states_of([limit], later)[0].remaining

    assert remaining_after(state.reset_s) == limit.burst_tokens
    assert remaining_after(state.reset_s - 1) < limit.burst_tokens
