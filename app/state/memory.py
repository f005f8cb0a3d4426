"""The store of a gateway that runs alone: everything in this process, nothing survives it."""

# ruff: noqa: D102 - the methods are described once, in their Protocols

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from app.state import gcra
from app.state.errors import JournalExistsError, JournalLeasedError, JournalNotFoundError
from app.state.expiring_table import ExpiringTable
from app.state.journals import (
    Extension,
    ExtensionOutcome,
    Holding,
    JournalPart,
    Lease,
    Terms,
)
from app.state.rate_limits import RateLimit, RateLimitState, Reservation

_MAX_JOURNALS: Final = 2000
_MAX_BUCKETS: Final = 100_000


class MemoryStateStore:
    """Journals and rate limits in memory, bounded.

    When a bound is reached, what would expire soonest is forgotten.

    Args:
        clock: returns UTC seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.journals = MemoryJournalStore(clock)
        self.rate_limiter = MemoryRateLimiter(clock)

    async def check(self) -> None:
        """Return at once: memory is always there."""

    async def close(self) -> None:
        """Do nothing: the contents go with the object."""


@dataclass(slots=True)
class _Journal:
    """One journal; `leased_until` is 0 when the lease was given back."""

    owner: str
    entries: list[bytes]
    lease_number: int
    leased_until: float


class MemoryJournalStore:
    """`JournalStore` in this process."""

    def __init__(self, clock: Callable[[], float], max_journals: int = _MAX_JOURNALS) -> None:
        self._clock = clock
        self._table = ExpiringTable[str, _Journal](max_journals)

    async def create(
        self, journal_id: str, *, owner: str, entries: Sequence[bytes], terms: Terms
    ) -> Lease:
        now = self._clock()
        if self._table.get(journal_id, now=now) is not None:
            raise JournalExistsError(journal_id)
        journal = _Journal(owner, list(entries), 1, now + terms.lease_s)
        self._table.put(journal_id, journal, expires_at=now + terms.keep_s, now=now)
        return Lease(journal_id, 1)

    async def extend(
        self, extensions: Sequence[Extension], *, terms: Terms
    ) -> Sequence[ExtensionOutcome]:
        return [self._extend(extension, terms) for extension in extensions]

    async def read(self, journal_id: str, *, owner: str, start: int) -> JournalPart:
        now = self._clock()
        journal = self._find(journal_id, owner, now)
        return JournalPart(tuple(journal.entries[start:]), journal.leased_until > now)

    async def take(self, journal_id: str, *, owner: str, terms: Terms) -> Lease:
        now = self._clock()
        journal = self._find(journal_id, owner, now)
        if journal.leased_until > now:
            raise JournalLeasedError(journal_id)
        journal.lease_number += 1
        journal.leased_until = now + terms.lease_s
        self._table.put(journal_id, journal, expires_at=now + terms.keep_s, now=now)
        return Lease(journal_id, journal.lease_number)

    async def delete(self, journal_id: str, *, owner: str) -> None:
        with suppress(JournalNotFoundError):
            self._find(journal_id, owner, self._clock())
            self._table.remove(journal_id)

    async def count(self) -> int:
        return self._table.count(now=self._clock())

    def _extend(self, extension: Extension, terms: Terms) -> ExtensionOutcome:
        now, lease = self._clock(), extension.lease
        journal = self._table.get(lease.journal_id, now=now)
        if journal is None:
            return ExtensionOutcome(Holding.GONE)
        if journal.lease_number != lease.number:
            return ExtensionOutcome(Holding.LOST)
        num_known = len(journal.entries) - extension.start
        if num_known >= 0:
            journal.entries += extension.entries[num_known:]
        journal.leased_until = 0.0 if extension.is_last else now + terms.lease_s
        self._table.put(lease.journal_id, journal, expires_at=now + terms.keep_s, now=now)
        return ExtensionOutcome(Holding.HELD, len(journal.entries))

    def _find(self, journal_id: str, owner: str, now: float) -> _Journal:
        journal = self._table.get(journal_id, now=now)
        if journal is None or journal.owner != owner:
            raise JournalNotFoundError(journal_id)
        return journal


class MemoryRateLimiter:
    """`RateLimiter` in this process; a bucket that is full again is forgotten."""

    def __init__(self, clock: Callable[[], float], max_buckets: int = _MAX_BUCKETS) -> None:
        self._clock = clock
        # Bucket -> the microsecond at which it is full, which is also when the entry expires.
        self._full_at_us = ExpiringTable[tuple[str, str], int](max_buckets)

    async def reserve(self, limits: Sequence[RateLimit], cost_tokens: int) -> Reservation:
        charges = gcra.charges_to_reserve(limits, cost_tokens)
        now_us = self._now_us()
        decision = gcra.decide(self._read(limits, now_us), charges, now_us)
        self._write(limits, decision)
        return gcra.reservation_of(limits, cost_tokens, decision)

    async def settle(
        self, reservation: Reservation, used_tokens: int
    ) -> tuple[RateLimitState, ...]:
        charges = gcra.charges_to_settle(reservation, used_tokens)
        if not reservation.is_allowed:
            return reservation.states
        now_us = self._now_us()
        decision = gcra.settle(self._read(reservation.limits, now_us), charges, now_us)
        self._write(reservation.limits, decision)
        return gcra.states_of(reservation.limits, decision)

    def _now_us(self) -> int:
        return round(self._clock() * gcra.MICROSECONDS_PER_S)

    def _read(self, limits: Sequence[RateLimit], now_us: int) -> list[int]:
        return [
            self._full_at_us.get((limit.name, limit.subject), now=now_us) or now_us
            for limit in limits
        ]

    def _write(self, limits: Sequence[RateLimit], decision: gcra.Decision) -> None:
        for limit, full_at_us in zip(limits, decision.full_at_us, strict=True):
            key = (limit.name, limit.subject)
            self._full_at_us.put(key, full_at_us, expires_at=full_at_us, now=decision.now_us)
