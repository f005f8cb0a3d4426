"""What one call does to each limit: pure, in integers, with `now_us` given.

A store keeps one integer per limit: of a bucket the microsecond at which it is full (`gcra`), of a
budget the tokens used, of places how many are taken. `decide` and `settle` turn these into new
ones; `app.state.redis.rate_limiter` runs the same steps in Lua.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from app.state import gcra
from app.state.errors import CostOverBurstError
from app.state.rate_limits import (
    MAX_TOKENS,
    PLACE_LEASE_S,
    Budget,
    Limit,
    LimitState,
    PlaceLimit,
    RateLimit,
    RequestLimit,
    Reservation,
)

PLACE_LEASE_US: Final = round(PLACE_LEASE_S * gcra.MICROSECONDS_PER_S)
BUDGET_KEPT_US: Final = 86_400 * gcra.MICROSECONDS_PER_S
"""What was used of a budget counts for so long after its window, for gateways whose clocks lag."""
PLACE_WAIT_US: Final = gcra.MICROSECONDS_PER_S
"""Nobody knows when a place becomes free; this is when to ask again."""


class Kind(StrEnum):
    """What the integer of a limit means."""

    BUCKET = "bucket"
    BUDGET = "budget"
    PLACES = "places"


@dataclass(frozen=True, slots=True)
class Charge:
    """What to add to the integer of a limit, and how much it may then be.

    Attributes:
        amount: microseconds, tokens or places; negative when something is given back.
        ceiling: of a bucket, how far ahead of now it may be full.
        term_us: of a budget, when its window ends; of places, for how long one is leased.
    """

    kind: Kind
    amount: int
    ceiling: int
    term_us: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The limits after a call, in the order given.

    Attributes:
        values: the integers; that of a bucket is never before `now_us`.
        waits_us: of each limit, the time until the same charge would fit; all are 0 when all
            charges have been made.
    """

    values: tuple[int, ...]
    waits_us: tuple[int, ...]
    now_us: int

    @property
    def wait_us(self) -> int:
        """The longest of the waits."""
        return max(self.waits_us, default=0)


def charges_to_reserve(limits: Sequence[Limit], cost_tokens: int) -> tuple[Charge, ...]:
    """Return the charge of a request for each limit.

    Raises:
        CostOverBurstError: the cost is over all that a limit ever holds.
        ValueError: the cost is negative.
    """
    if cost_tokens < 0:
        raise ValueError(f"a request costs 0 tokens or more, got {cost_tokens}")
    return tuple(_charge_to_reserve(limit, cost_tokens) for limit in limits)


def charges_to_settle(reservation: Reservation, used_tokens: int) -> tuple[Charge, ...]:
    """Return what turns the reserved cost into `used_tokens`, for each limit.

    The ceiling of a bucket is two bursts: a debt beyond one burst is forgiven, so that one wrong
    count cannot lock a subject out for long.

    Raises:
        ValueError: `used_tokens` is negative.
    """
    if used_tokens < 0:
        raise ValueError(f"a request uses 0 tokens or more, got {used_tokens}")
    used_tokens = min(used_tokens, MAX_TOKENS)
    return tuple(
        _charge_to_settle(limit, reservation.cost_tokens, used_tokens)
        for limit in reservation.limits
    )


def decide(stored: Sequence[int], charges: Sequence[Charge], now_us: int) -> Decision:
    """Make all charges, or none when one would pass its ceiling."""
    before = tuple(map(_valid_at, stored, charges, (now_us,) * len(charges)))
    after = tuple(value + charge.amount for value, charge in zip(before, charges, strict=True))
    waits_us = tuple(_wait_us(*pair, now_us) for pair in zip(after, charges, strict=True))
    return Decision(before if any(waits_us) else after, waits_us, now_us)


def settle(stored: Sequence[int], charges: Sequence[Charge], now_us: int) -> Decision:
    """Make all charges, each cut to keep its limit between untouched and its ceiling."""
    after = []
    for value, charge in zip(stored, charges, strict=True):
        least = now_us if charge.kind is Kind.BUCKET else 0
        wanted = max(_valid_at(value, charge, now_us) + charge.amount, least)
        after.append(min(wanted, least + charge.ceiling))
    return Decision(tuple(after), (0,) * len(after), now_us)


def reservation_of(
    limits: Sequence[Limit], cost_tokens: int, decision: Decision, reservation_id: str
) -> Reservation:
    """Return the caller's view of a decision on a request."""
    wait_us = decision.wait_us
    return Reservation(
        is_allowed=wait_us == 0,
        cost_tokens=cost_tokens,
        states=states_of(limits, decision),
        retry_after_s=gcra.whole_seconds(wait_us),
        limits=tuple(limits),
        refused_by=limits[decision.waits_us.index(wait_us)] if wait_us else None,
        id=reservation_id,
    )


def states_of(limits: Sequence[Limit], decision: Decision) -> tuple[LimitState, ...]:
    """Return the caller's view of each limit.

    `remaining` is the largest cost that would pass right now.
    """
    return tuple(
        _state_of(limit, value, decision.now_us)
        for limit, value in zip(limits, decision.values, strict=True)
    )


def _charge_to_reserve(limit: Limit, cost_tokens: int) -> Charge:
    match limit:
        case RateLimit():
            _check_fits(limit.name, cost_tokens, limit.burst_tokens)
            amount_us = gcra.refill_us(cost_tokens, limit.tokens_per_minute)
            return Charge(Kind.BUCKET, amount_us, _burst_us(limit))
        case RequestLimit():
            amount_us = gcra.refill_us(1, limit.requests_per_minute)
            return Charge(Kind.BUCKET, amount_us, _burst_us(limit))
        case Budget():
            _check_fits(limit.name, cost_tokens, limit.max_tokens)
            return Charge(Kind.BUDGET, cost_tokens, limit.max_tokens, _ends_at_us(limit))
        case PlaceLimit():
            return Charge(Kind.PLACES, 1, limit.max_places, PLACE_LEASE_US)
    assert_never(limit)


def _charge_to_settle(limit: Limit, cost_tokens: int, used_tokens: int) -> Charge:
    match limit:
        case RateLimit():
            per_minute = limit.tokens_per_minute
            used_us = gcra.refill_us(used_tokens, per_minute)
            amount_us = used_us - gcra.refill_us(cost_tokens, per_minute)
            return Charge(Kind.BUCKET, amount_us, 2 * _burst_us(limit))
        case RequestLimit():
            return Charge(Kind.BUCKET, 0, 2 * _burst_us(limit))
        case Budget():
            over = limit.max_tokens + MAX_TOKENS  # what was used is counted, whatever it was
            return Charge(Kind.BUDGET, used_tokens - cost_tokens, over, _ends_at_us(limit))
        case PlaceLimit():
            # The store strikes the holder off, who may have been too late to hold a place still.
            return Charge(Kind.PLACES, 0, limit.max_places, PLACE_LEASE_US)
    assert_never(limit)


def _valid_at(value: int, charge: Charge, now_us: int) -> int:
    return max(value, now_us) if charge.kind is Kind.BUCKET else value


def _wait_us(after: int, charge: Charge, now_us: int) -> int:
    match charge.kind:
        case Kind.BUCKET:
            return max(0, after - charge.ceiling - now_us)
        case Kind.BUDGET:
            return max(1, charge.term_us - now_us) if after > charge.ceiling else 0
        case Kind.PLACES:
            return PLACE_WAIT_US if after > charge.ceiling else 0
    assert_never(charge.kind)


def _state_of(limit: Limit, value: int, now_us: int) -> LimitState:
    match limit:
        case RateLimit():
            rate, burst = limit.tokens_per_minute, limit.burst_tokens
            left, reset_s = _bucket(value - now_us, rate, burst)
            return LimitState(limit.name, "tokens", burst, left, reset_s)
        case RequestLimit():
            rate = limit.requests_per_minute
            left, reset_s = _bucket(value - now_us, rate, rate)
            return LimitState(limit.name, "requests", rate, left, reset_s)
        case Budget():
            left = max(0, limit.max_tokens - value)
            reset_s = gcra.whole_seconds(max(0, _ends_at_us(limit) - now_us)) if value else 0
            return LimitState(limit.name, "tokens", limit.max_tokens, left, reset_s)
        case PlaceLimit():
            left = max(0, limit.max_places - value)
            return LimitState(limit.name, "places", limit.max_places, left, 0)
    assert_never(limit)


def _bucket(taken_us: int, per_minute: int, burst: int) -> tuple[int, int]:
    return gcra.remaining(taken_us, per_minute, burst), gcra.whole_seconds(taken_us)


def _burst_us(limit: RateLimit | RequestLimit) -> int:
    if isinstance(limit, RequestLimit):
        return gcra.refill_us(limit.requests_per_minute, limit.requests_per_minute)
    return gcra.refill_us(limit.burst_tokens, limit.tokens_per_minute)


def _ends_at_us(budget: Budget) -> int:
    return budget.ends_at * gcra.MICROSECONDS_PER_S


def _check_fits(name: str, cost_tokens: int, most: int) -> None:
    if cost_tokens > most:
        raise CostOverBurstError(name, cost_tokens, most)
