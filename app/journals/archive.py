"""Brings journals into the store: in batches, later when it is away, anew when it has lost them.

Entries go there every `_FLUSH_PERIOD_S`, in one call for many journals: no token waits for the
store, and none is lost with it, for the worker that writes a journal has all of it in memory. What
was shown to a caller and lost with this worker is made again by whoever goes on: the request holds
the seed, so the tokens are the same. A store that nobody else reads gets journals at their end.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from time import monotonic
from typing import Final

import structlog

from app.journals.entries import encode_entry, is_end
from app.journals.journal import Journal
from app.state.backoff import Backoff
from app.state.errors import JournalExistsError, StateUnavailableError
from app.state.journals import Extension, ExtensionOutcome, Holding, JournalStore, Lease, Terms

log = structlog.get_logger(__name__)

_HEARTBEAT_S: Final = 1.0
_FLUSH_PERIOD_S: Final = 0.05
_MAX_BATCH: Final = 128
"""Journals of one call; the loop turns between two, so that no token waits for thousands."""
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_MAX_ENDED: Final = 1000
"""Journals of runs that have ended, whose end the store has not heard of."""
_NUMBERS: Final = 2**40  # two workers that have lost the same journal choose different ones


@dataclass(slots=True, eq=False)
class _Record:
    """What is known of a journal's copy in the store.

    Attributes:
        last_number: of the lease that the store gave us last; 0 before the first.
        ended_at: when the run ended, on the monotonic clock.
    """

    journal: Journal
    last_number: int
    ended_at: float | None = None


class Archive:
    """The journals whose copy in the store this worker writes. Used from one event loop.

    Args:
        random: spreads the attempts of many workers after an outage.
    """

    def __init__(self, store: JournalStore, terms: Terms, random: Random | None = None) -> None:
        self._store = store
        self._terms = terms
        self._random = random or Random()
        self._records: dict[str, _Record] = {}
        self._storing = asyncio.Lock()  # so that no batch arrives behind the one that ends a lease
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, self._random.random)
        self.has_changes = asyncio.Event()

    async def add(self, journal: Journal) -> None:
        """Keep a journal from now on; store it if it is new, or later if that fails."""
        record = _Record(journal, 0 if journal.lease is None else journal.lease.number)
        journal.is_kept = True
        if journal.lease is None:
            journal.note_stored(0)
            if self._store.is_shared and self._backoff.may_try(monotonic()):
                await self._try([record])  # no batch has it yet, so none can overtake this
        self._records[journal.id] = record

    def find_whole(self, journal_id: str, owner: str) -> Journal | None:
        """Return a journal that is finished, and that the store may not have yet."""
        record = self._records.get(journal_id)
        if record is None or record.journal.owner != owner or record.ended_at is None:
            return None
        return record.journal if is_end(record.journal.entries[-1]) else None

    async def save(self, journal: Journal) -> None:
        """Store what is new in a journal now, if the store answers and others read it."""
        if self._store.is_shared:
            await self._store_all([journal])

    async def end(self, journal: Journal) -> None:
        """Store the rest of a journal, now or later, and let others go on with it."""
        record = self._records.get(journal.id)
        if record is None:
            return
        record.ended_at = monotonic()
        await self._store_all([journal])

    def forget(self, journal: Journal) -> None:
        """Store nothing more of it."""
        self._records.pop(journal.id, None)

    async def run(self) -> None:
        """Store what is new, and keep the leases, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT_S / 2):
                    await self.has_changes.wait()
            await asyncio.sleep(_FLUSH_PERIOD_S + self._backoff.wait_s)
            self.has_changes.clear()
            now = monotonic()
            self._drop_old(now)
            due = [record.journal for record in self._records.values() if self._is_due(record, now)]
            for start in range(0, len(due), _MAX_BATCH):
                await self._store_all(due[start : start + _MAX_BATCH])
                if self._backoff.wait_s:
                    break  # it is away, also for the rest
                await asyncio.sleep(0)  # a store in memory does not wait

    async def _store_all(self, journals: Sequence[Journal]) -> None:
        """Store what is new of journals, and prolong their leases or end them."""
        async with self._storing:
            records = [self._records.get(journal.id) for journal in journals]
            await self._try([record for record in records if record is not None])

    async def _try(self, records: Sequence[_Record]) -> None:
        """Store what is new; when the store is away, a later call sends it again."""
        try:
            lost = await self._store_once(records)
            await self._store_once(lost)  # what the store has lost is put there again at once
        except StateUnavailableError as error:
            if self._backoff.failed(monotonic()):
                log.warning("journals_not_stored", reason=error.reason)
        else:
            if self._backoff.succeeded():
                log.info("journals_stored_again")

    async def _store_once(self, records: Sequence[_Record]) -> list[_Record]:
        """Put there what the store does not have, extend the rest; return what it has lost."""
        new = [record for record in records if record.journal.lease is None]
        for record in new:
            await self._create(record)
        behind = [record for record in records if _needs_extension(record, is_new=record in new)]
        if behind:
            await self._extend(behind)
        return [r for r in behind if r.journal.is_kept and r.journal.lease is None]

    async def _create(self, record: _Record) -> None:
        journal = record.journal
        entries = [encode_entry(entry) for entry in journal.entries]
        is_again = record.last_number > 0
        number = record.last_number + self._random.randrange(1, _NUMBERS) if is_again else 1
        try:
            journal.lease = await self._store.create(
                journal.id, owner=journal.owner, entries=entries, terms=self._terms, number=number
            )
        except JournalExistsError:
            if is_again:  # it was lost, and another worker has put it there again
                self._lose(record, Holding.LOST)
            else:  # an earlier call has reached the store, and its answer not us
                journal.lease = Lease(journal.id, number)
            return
        record.last_number = number
        journal.extended_at = monotonic()
        journal.note_stored(len(entries))

    async def _extend(self, records: Sequence[_Record]) -> None:
        extensions = [
            record.journal.pending(is_last=record.ended_at is not None) for record in records
        ]
        outcomes = await self._store.extend(extensions, terms=self._terms)
        for record, extension, outcome in zip(records, extensions, outcomes, strict=True):
            self._note(record, extension, outcome)

    def _note(self, record: _Record, extension: Extension, outcome: ExtensionOutcome) -> None:
        journal = record.journal
        if outcome.holding is Holding.HELD:
            record.last_number = extension.lease.number
            journal.extended_at = monotonic()
            journal.note_stored(outcome.num_entries)
            if record.ended_at is not None and not journal.has_pending:
                self.forget(journal)
        elif outcome.holding is Holding.GONE:
            log.warning("journal_lost_by_store")
            journal.lease = None
            journal.note_stored(0)
        else:
            self._lose(record, outcome.holding)

    def _lose(self, record: _Record, holding: Holding) -> None:
        """Another worker writes it now, or its owner has had it deleted: nothing is left to us."""
        log.warning("lease_ended", holding=holding.name)
        record.journal.lease = None
        record.journal.is_kept = False
        self.forget(record.journal)
        record.journal.interrupt()

    def _is_due(self, record: _Record, now: float) -> bool:
        """Tell whether the store wants news of it, or a sign of life."""
        if record.ended_at is not None or not self._store.is_shared:
            return record.ended_at is not None
        return record.journal.has_pending or now - record.journal.extended_at > _HEARTBEAT_S

    def _drop_old(self, now: float) -> None:
        """Bound what waits for a store that stays away."""
        ended = [record for record in self._records.values() if record.ended_at is not None]
        num_over = len(ended) - _MAX_ENDED
        for index, record in enumerate(ended):
            assert record.ended_at is not None
            if index < num_over or now - record.ended_at > self._terms.keep_s:
                log.warning("journal_dropped", num_entries=len(record.journal.entries))
                self.forget(record.journal)


def _needs_extension(record: _Record, *, is_new: bool) -> bool:
    """Tell whether the store lacks entries, an end, or a sign of life of what it had before."""
    journal = record.journal
    if journal.lease is None:
        return False
    return not is_new or journal.has_pending or record.ended_at is not None
