"""The rate limiter of a gateway that runs alone."""

# ruff: noqa: D102 - the methods are described once, in their Protocols

from collections.abc import Callable, Sequence
from typing import Final

from app.state import charges, gcra
from app.state.charges import Charge, Decision, Kind
from app.state.expiring_table import ExpiringTable
from app.state.rate_limits import (
    Budget,
    Limit,
    LimitState,
    PlaceLimit,
    Reservation,
    new_reservation_id,
)

_MAX_LIMITS: Final = 100_000
_Key = tuple[str, str, str]


class MemoryRateLimiter:
    """`RateLimiter` in this process; what is as good as untouched is forgotten.

    Args:
        clock: returns UTC seconds.
        max_limits: beyond them, what would be untouched soonest is forgotten.
    """

    def __init__(self, clock: Callable[[], float], max_limits: int = _MAX_LIMITS) -> None:
        self._clock = clock
        self._values = ExpiringTable[_Key, int](max_limits)
        # Who holds places, and until which microsecond; empty ones are removed.
        self._holders: dict[_Key, dict[str, int]] = {}

    async def reserve(self, limits: Sequence[Limit], cost_tokens: int) -> Reservation:
        wanted = charges.charges_to_reserve(limits, cost_tokens)
        now_us, reservation_id = self._now_us(), new_reservation_id()
        decision = charges.decide(self._read(limits, now_us), wanted, now_us)
        if decision.wait_us == 0:
            self._write(limits, wanted, decision)
            self._take_places(limits, reservation_id, now_us)
        return charges.reservation_of(limits, cost_tokens, decision, reservation_id)

    async def settle(self, reservation: Reservation, used_tokens: int) -> tuple[LimitState, ...]:
        wanted = charges.charges_to_settle(reservation, used_tokens)
        if not reservation.is_allowed:
            return reservation.states
        limits, now_us = reservation.limits, self._now_us()
        self._leave_places(limits, reservation.id)
        decision = charges.settle(self._read(limits, now_us), wanted, now_us)
        self._write(limits, wanted, decision)
        return charges.states_of(limits, decision)

    async def renew(self, reservations: Sequence[Reservation]) -> None:
        now_us = self._now_us()
        for reservation in reservations:
            self._take_places(reservation.limits, reservation.id, now_us)

    def _now_us(self) -> int:
        return round(self._clock() * gcra.MICROSECONDS_PER_S)

    def _read(self, limits: Sequence[Limit], now_us: int) -> list[int]:
        return [
            self._count_places(_key(limit), now_us)
            if isinstance(limit, PlaceLimit)
            else self._values.get(_key(limit), now=now_us) or 0
            for limit in limits
        ]

    def _write(self, limits: Sequence[Limit], wanted: Sequence[Charge], decision: Decision) -> None:
        for limit, charge, value in zip(limits, wanted, decision.values, strict=True):
            if charge.kind is not Kind.PLACES:
                is_bucket = charge.kind is Kind.BUCKET
                expires_at = value if is_bucket else charge.term_us + charges.BUDGET_KEPT_US
                self._values.put(_key(limit), value, expires_at=expires_at, now=decision.now_us)

    def _take_places(self, limits: Sequence[Limit], holder: str, now_us: int) -> None:
        for limit in limits:
            if isinstance(limit, PlaceLimit):
                holders = self._holders.setdefault(_key(limit), {})
                holders[holder] = now_us + charges.PLACE_LEASE_US

    def _leave_places(self, limits: Sequence[Limit], holder: str) -> None:
        for limit in limits:
            holders = self._holders.get(_key(limit), {})
            holders.pop(holder, None)
            if not holders:
                self._holders.pop(_key(limit), None)

    def _count_places(self, key: _Key, now_us: int) -> int:
        holders = self._holders.get(key, {})
        for holder in [name for name, until_us in holders.items() if until_us <= now_us]:
            del holders[holder]
        return len(holders)


def _key(limit: Limit) -> _Key:
    return limit.name, limit.subject, limit.window if isinstance(limit, Budget) else ""
