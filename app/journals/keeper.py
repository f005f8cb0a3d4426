"""Runs generations in the background of connections, and keeps their journals.

Redis away: runs go on and new ones begin, here; the archive stores them when it is back.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import structlog

from app.background import in_background
from app.closing import run_to_the_end
from app.errors import HandedOverError, describe_error
from app.journals.archive import Archive
from app.journals.entries import Closed, Entry, Failed, decode_entry
from app.journals.journal import Journal
from app.state.errors import JournalNotFoundError
from app.state.journals import JournalPart, JournalStore, Lease, Terms
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)

LEASE_S: Final = 3.0
_LOST_S: Final = 0.2  # some periods in which the archive stores


class JournalKeeper:
    """All journals that this worker writes. Used from one event loop; `running` owns its tasks.

    Args:
        resume_s: how long a journal is kept that nobody writes; 0 keeps none.
        abandoned_s: how long a run goes on that nobody reads.
        lease_s: after which another worker may go on with what we do not write any more.
    """

    def __init__(
        self,
        store: JournalStore,
        *,
        resume_s: float,
        abandoned_s: float,
        lease_s: float = LEASE_S,
    ) -> None:
        self._store = store
        self._terms = Terms(lease_s, max(resume_s, lease_s))
        self._archive = Archive(store, self._terms)
        self._abandoned_s = abandoned_s
        self._live: dict[str, Journal] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._has_started = asyncio.Event()
        self.is_keeping = resume_s > 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep leases while the block runs; at its end, give them all back."""
        async with in_background(self._archive.run(), name="journals"):
            try:
                yield
            finally:
                await self.hand_over()
                await asyncio.gather(*self._runs, return_exceptions=True)

    def find(self, journal_id: str, owner: str) -> Journal | None:
        """Return a journal that is written here now, or finished and not yet stored."""
        journal = self._live.get(journal_id)
        if journal is None:
            return self._archive.find_whole(journal_id, owner)
        return journal if journal.owner == owner else None

    async def wait_for(self, journal_id: str, owner: str) -> Journal:
        """Return a journal as soon as it is written here."""
        while (journal := self.find(journal_id, owner)) is None:
            self._has_started.clear()
            await self._has_started.wait()
        return journal

    async def create(self, owner: str, first: Entry, journal_id: str | None = None) -> Journal:
        """Begin a journal; `start` its run next. A store that is away gets it later.

        Args:
            journal_id: 32 random hexadecimal digits; None for new ones.
        """
        journal = self._journal(journal_id or uuid4().hex, owner, [first], None)
        if self.is_keeping:
            await self._archive.add(journal)
        return journal

    async def keep(self, journal_id: str, owner: str, entries: Sequence[Entry]) -> None:
        """Keep a journal that is finished already, its end included."""
        journal = await self.create(owner, entries[0], journal_id)
        journal.append(*entries[1:])
        await self.give_back(journal)
        journal.close()

    async def take(self, journal_id: str, owner: str) -> Journal:
        """Go on with a journal that nobody writes any more; `start` its run next.

        Raises:
            JournalNotFoundError, JournalLeasedError, StateUnavailableError: see the classes.
            JournalUnreadableError: another version wrote it.
        """
        lease = await self._store.take(journal_id, owner=owner, terms=self._terms)
        part = await self._store.read(journal_id, owner=owner, start=0)
        entries = [decode_entry(data) for data in part.entries]
        journal = self._journal(journal_id, owner, entries, lease)
        await self._archive.add(journal)
        return journal

    async def read(self, journal_id: str, owner: str, start: int) -> JournalPart:
        """Return what is stored of a journal that another worker writes, or nobody.

        One that is not there is looked for once more, a moment later: a store that has lost
        everything gets again what other workers have.

        Raises:
            JournalNotFoundError, StateUnavailableError: see the classes.
        """
        try:
            return await self._store.read(journal_id, owner=owner, start=start)
        except JournalNotFoundError:
            if not self._store.is_shared:
                raise
        await asyncio.sleep(_LOST_S)
        return await self._store.read(journal_id, owner=owner, start=start)

    async def forget(self, journal_id: str, owner: str) -> None:
        """End the run, here before this returns and elsewhere soon, and delete the journal.

        Raises:
            StateUnavailableError: the store does not answer; a run here has ended all the same.
        """
        journal = self.find(journal_id, owner)
        if journal is not None:
            journal.interrupt()
            await journal.closed.wait()
            self._archive.forget(journal)
        if self.is_keeping:
            await self._store.delete(journal_id, owner=owner)

    def start(
        self,
        journal: Journal,
        run: Coroutine[None, None, None],
        *,
        abandoned_s: float | None = None,
    ) -> None:
        """Run what writes the journal, until it ends, is interrupted, or nobody reads any more.

        An error of it becomes the journal's last entry.

        Args:
            abandoned_s: how long it goes on without readers; None for as long as others do.
        """
        patience_s = self._abandoned_s if abandoned_s is None else abandoned_s
        self._live[journal.id] = journal
        self._has_started.set()
        task = asyncio.create_task(self._run(journal, run, patience_s), name=f"run {journal.id}")
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    async def save(self, journal: Journal) -> None:
        """Store what is new in a journal now, if the store answers."""
        await self._archive.save(journal)

    async def give_back(self, journal: Journal) -> None:
        """Let others go on with a journal; to be called when its run cannot be started."""
        await self._archive.end(journal)

    async def hand_over(self) -> None:
        """Stop all runs so that other workers go on with them; they have ended afterwards."""
        live = list(self._live.values())
        for journal in live:
            journal.interrupt(is_handed_over=True)
        for journal in live:
            await journal.closed.wait()

    async def _run(
        self, journal: Journal, run: Coroutine[None, None, None], patience_s: float
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            with journal.patience.watching(patience_s, task.cancel):
                await run
            journal.append(Closed())
        except asyncio.CancelledError:
            if not journal.patience.is_over:
                raise
            task.uncancel()
        except HandedOverError:
            journal.is_handed_over = True
        except Exception as error:
            if not isinstance(error, SwarmError):
                log.exception("generation_crashed")
            if not journal.patience.is_over:
                journal.append(Failed(describe_error(error)))
        finally:
            del self._live[journal.id]
            await run_to_the_end(self.give_back(journal))
            journal.close()

    def _journal(
        self, journal_id: str, owner: str, entries: Sequence[Entry], lease: Lease | None
    ) -> Journal:
        return Journal(
            journal_id, owner, entries, lease=lease, on_change=self._archive.has_changes.set
        )
