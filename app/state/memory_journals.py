"""Journals of a gateway that runs alone, bounded in number."""

# ruff: noqa: D102 - the methods are described once, in their Protocols

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

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

_MAX_JOURNALS: Final = 2000
_DELETED_S: Final = 60.0  # many times the period at which writers extend their journals


@dataclass(slots=True)
class _Journal:
    """One journal; `leased_until` is 0 when the lease was given back."""

    owner: str
    entries: list[bytes]
    lease_number: int
    leased_until: float


class MemoryJournalStore:
    """`JournalStore` in this process."""

    is_shared = False

    def __init__(self, clock: Callable[[], float], max_journals: int = _MAX_JOURNALS) -> None:
        self._clock = clock
        self._table = ExpiringTable[str, _Journal](max_journals)
        self._deleted = ExpiringTable[str, bool](max_journals)  # for their writers to see

    async def create(
        self,
        journal_id: str,
        *,
        owner: str,
        entries: Sequence[bytes],
        terms: Terms,
        number: int = 1,
    ) -> Lease:
        now = self._clock()
        if self._table.get(journal_id, now=now) is not None:
            raise JournalExistsError(journal_id)
        journal = _Journal(owner, list(entries), number, now + terms.lease_s)
        self._table.put(journal_id, journal, expires_at=now + terms.keep_s, now=now)
        return Lease(journal_id, number)

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
        now = self._clock()
        with suppress(JournalNotFoundError):
            self._find(journal_id, owner, now)
            self._table.remove(journal_id)
            self._deleted.put(journal_id, True, expires_at=now + _DELETED_S, now=now)

    async def count(self) -> int:
        return self._table.count(now=self._clock())

    def _extend(self, extension: Extension, terms: Terms) -> ExtensionOutcome:
        now, lease = self._clock(), extension.lease
        journal = self._table.get(lease.journal_id, now=now)
        if journal is None:
            is_deleted = self._deleted.get(lease.journal_id, now=now)
            return ExtensionOutcome(Holding.DELETED if is_deleted else Holding.GONE)
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
