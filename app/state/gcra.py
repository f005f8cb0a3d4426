"""The generic cell rate algorithm: pure arithmetic in integer microseconds.

A bucket is one number: the time at which it will be full again (the "theoretical arrival time").
Taking tokens moves that time forward by what they take to refill; the bucket is empty when the
time lies a whole burst ahead of now, and full when it has passed. Time only enters as `now_us`.

    ── full ──────── now ─────── full_at ────────────── now + burst_us ──▶
                      │◀── taken ──▶│◀──── room ─────────▶│

Charges are rounded up to the microsecond. Over any window, what was granted less what was given
back in it is at most burst + window; in tokens, burst + rate * window, to the microsecond.
`app.state.redis.rate_limiter` runs the same steps in Lua; `decide` and `settle` are its twins.

Source: ITU-T I.371, annex A (virtual scheduling), with a cost per request instead of cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.state.errors import CostOverBurstError
from app.state.rate_limits import MAX_TOKENS, RateLimit, RateLimitState, Reservation

MICROSECONDS_PER_S: Final = 1_000_000
_MICROSECONDS_PER_MINUTE: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Charge:
    """What to add to a bucket's `full_at`, and how far ahead of now it may then lie.

    `amount_us` is negative when tokens are given back.
    """

    amount_us: int
    ceiling_us: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The buckets after a decision.

    Attributes:
        full_at_us: one per bucket, never before `now_us`.
        wait_us: time until the same charges would fit; 0 when they have been made.
    """

    full_at_us: tuple[int, ...]
    wait_us: int
    now_us: int


def refill_us(num_tokens: int, limit: RateLimit) -> int:
    """Return how long `num_tokens` take to refill, rounded up."""
    return -(-num_tokens * _MICROSECONDS_PER_MINUTE // limit.tokens_per_minute)


def charges_to_reserve(limits: Sequence[RateLimit], cost_tokens: int) -> tuple[Charge, ...]:
    """Return the charge of a request for each limit.

    Raises:
        CostOverBurstError: the cost is over the burst of a limit.
        ValueError: the cost is negative.
    """
    if cost_tokens < 0:
        raise ValueError(f"a request costs 0 tokens or more, got {cost_tokens}")
    for limit in limits:
        if cost_tokens > limit.burst_tokens:
            raise CostOverBurstError(limit.name, cost_tokens, limit.burst_tokens)
    return tuple(
        Charge(refill_us(cost_tokens, limit), refill_us(limit.burst_tokens, limit))
        for limit in limits
    )


def charges_to_settle(reservation: Reservation, used_tokens: int) -> tuple[Charge, ...]:
    """Return what turns the reserved cost into `used_tokens`, for each limit.

    The ceiling is two bursts: a debt beyond one burst is forgiven, so that one wrong count
    cannot lock a subject out for long.

    Raises:
        ValueError: `used_tokens` is negative.
    """
    if used_tokens < 0:
        raise ValueError(f"a request uses 0 tokens or more, got {used_tokens}")
    used_tokens = min(used_tokens, MAX_TOKENS)
    return tuple(
        Charge(
            refill_us(used_tokens, limit) - refill_us(reservation.cost_tokens, limit),
            2 * refill_us(limit.burst_tokens, limit),
        )
        for limit in reservation.limits
    )


def decide(full_at_us: Sequence[int], charges: Sequence[Charge], now_us: int) -> Decision:
    """Make all charges, or none when one would pass its ceiling."""
    before = tuple(max(full_at, now_us) for full_at in full_at_us)
    after = tuple(
        full_at + charge.amount_us for full_at, charge in zip(before, charges, strict=True)
    )
    overflows = (
        full_at - charge.ceiling_us - now_us for full_at, charge in zip(after, charges, strict=True)
    )
    wait_us = max(0, *overflows) if charges else 0
    return Decision(before if wait_us > 0 else after, wait_us, now_us)


def settle(full_at_us: Sequence[int], charges: Sequence[Charge], now_us: int) -> Decision:
    """Make all charges, each cut to keep its bucket between full and its ceiling."""
    after = tuple(
        min(max(max(full_at, now_us) + charge.amount_us, now_us), now_us + charge.ceiling_us)
        for full_at, charge in zip(full_at_us, charges, strict=True)
    )
    return Decision(after, 0, now_us)


def reservation_of(
    limits: Sequence[RateLimit], cost_tokens: int, decision: Decision
) -> Reservation:
    """Return the caller's view of a decision on a request."""
    return Reservation(
        is_allowed=decision.wait_us == 0,
        cost_tokens=cost_tokens,
        states=states_of(limits, decision),
        retry_after_s=_whole_seconds(decision.wait_us),
        limits=tuple(limits),
    )


def states_of(limits: Sequence[RateLimit], decision: Decision) -> tuple[RateLimitState, ...]:
    """Return the caller's view of each bucket.

    `remaining_tokens` is the largest cost that would pass right now.
    """
    return tuple(
        _state_of(limit, full_at - decision.now_us)
        for limit, full_at in zip(limits, decision.full_at_us, strict=True)
    )


def _state_of(limit: RateLimit, taken_us: int) -> RateLimitState:
    room_us = max(0, refill_us(limit.burst_tokens, limit) - taken_us)
    remaining = room_us * limit.tokens_per_minute // _MICROSECONDS_PER_MINUTE
    return RateLimitState(
        name=limit.name,
        limit_tokens=limit.burst_tokens,
        remaining_tokens=min(remaining, limit.burst_tokens),
        reset_s=_whole_seconds(taken_us),
    )


def _whole_seconds(duration_us: int) -> int:
    return -(-duration_us // MICROSECONDS_PER_S)
