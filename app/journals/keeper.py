"""Runs generations in the background of connections, and keeps their journals in the store.

Entries reach the store in batches, every `_FLUSH_PERIOD_S`, in one call for all journals: no token
waits for the store. What was shown to a caller and lost before it was stored is made again by
whoever goes on: the request holds the seed, so the tokens are the same.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Final
from uuid import uuid4

import structlog

from app.admission import CallerLeftError
from app.errors import HandedOverError, describe_error
from app.journals.entries import Closed, Entry, Failed, decode_entry, encode_entry
from app.journals.journal import Journal
from app.presence import run_beside, run_to_the_end
from app.state.errors import StateUnavailableError
from app.state.journals import ExtensionOutcome, Holding, JournalPart, JournalStore, Terms
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)

LEASE_S: Final = 3.0
_HEARTBEAT_S: Final = 1.0
_FLUSH_PERIOD_S: Final = 0.05


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
        self._abandoned_s = abandoned_s
        self._live: dict[str, Journal] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._storing = asyncio.Lock()  # so that no batch arrives behind the one that ends a lease
        self._has_changes = asyncio.Event()
        self._has_started = asyncio.Event()
        self.is_keeping = resume_s > 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep leases while the block runs; at its end, give them all back."""
        keeping = asyncio.create_task(self._keep_all(), name="journals")
        try:
            yield
        finally:
            keeping.cancel()
            await self.hand_over()
            await asyncio.gather(keeping, *self._runs, return_exceptions=True)

    def find(self, journal_id: str, owner: str) -> Journal | None:
        """Return a journal that is written here now, if there is one."""
        journal = self._live.get(journal_id)
        return journal if journal is not None and journal.owner == owner else None

    async def wait_for(self, journal_id: str, owner: str) -> Journal:
        """Return a journal as soon as it is written here."""
        while (journal := self.find(journal_id, owner)) is None:
            self._has_started.clear()
            await self._has_started.wait()
        return journal

    async def create(self, owner: str, first: Entry) -> Journal:
        """Begin a journal; `start` its run next.

        Raises:
            StateUnavailableError: the store does not answer.
        """
        journal_id, lease = uuid4().hex, None
        if self.is_keeping:
            lease = await self._store.create(
                journal_id, owner=owner, entries=[encode_entry(first)], terms=self._terms
            )
        return Journal(journal_id, owner, [first], lease=lease, on_change=self._has_changes.set)

    async def take(self, journal_id: str, owner: str) -> Journal:
        """Go on with a journal that nobody writes any more; `start` its run next.

        Raises:
            JournalNotFoundError, JournalLeasedError, StateUnavailableError: see the classes.
            JournalUnreadableError: another version wrote it.
        """
        lease = await self._store.take(journal_id, owner=owner, terms=self._terms)
        part = await self._store.read(journal_id, owner=owner, start=0)
        entries = [decode_entry(data) for data in part.entries]
        return Journal(journal_id, owner, entries, lease=lease, on_change=self._has_changes.set)

    async def read(self, journal_id: str, owner: str, start: int) -> JournalPart:
        """Return what is stored of a journal that another worker writes, or nobody."""
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
        if self.is_keeping:
            await self._store.delete(journal_id, owner=owner)

    def start(self, journal: Journal, run: Coroutine[None, None, None]) -> None:
        """Run what writes the journal, until it ends, is interrupted, or nobody reads any more.

        An error of it becomes the journal's last entry.
        """
        self._live[journal.id] = journal
        self._has_started.set()
        task = asyncio.create_task(self._run(journal, run), name=f"run {journal.id}")
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    async def save(self, journal: Journal) -> None:
        """Store what is new in a journal now, if the store answers."""
        if journal.lease is not None:
            await self._store_all([journal])

    async def give_back(self, journal: Journal) -> None:
        """Let others go on with a journal; to be called when its run cannot be started."""
        if journal.lease is not None:
            await self._store_all([journal], is_last=True)

    async def hand_over(self) -> None:
        """Stop all runs so that other workers go on with them; they have ended afterwards."""
        live = list(self._live.values())
        for journal in live:
            journal.interrupt(is_handed_over=True)
        for journal in live:
            await journal.closed.wait()

    async def _run(self, journal: Journal, run: Coroutine[None, None, None]) -> None:
        try:
            await run_beside(self._watch(journal), run)
            journal.append(Closed())
        except CallerLeftError:
            pass
        except HandedOverError:
            journal.is_handed_over = True
        except Exception as error:
            if not isinstance(error, SwarmError):
                log.exception("generation_crashed")
            journal.append(Failed(describe_error(error)))
        finally:
            del self._live[journal.id]
            await run_to_the_end(self.give_back(journal))
            journal.close()

    async def _watch(self, journal: Journal) -> None:
        await journal.wait_abandoned(self._abandoned_s)
        raise CallerLeftError

    async def _keep_all(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT_S / 2):
                    await self._has_changes.wait()
            await asyncio.sleep(_FLUSH_PERIOD_S)
            self._has_changes.clear()
            due = [journal for journal in self._live.values() if _is_due(journal, monotonic())]
            if due:
                await self._store_all(due)

    async def _store_all(self, journals: Sequence[Journal], *, is_last: bool = False) -> None:
        """Store what is new, and prolong the leases or end them."""
        async with self._storing:
            kept = [journal for journal in journals if journal.lease is not None]
            extensions = [journal.pending(is_last=is_last) for journal in kept]
            try:
                outcomes = await self._store.extend(extensions, terms=self._terms)
            except StateUnavailableError as error:  # a later call sends it again
                log.warning("journals_not_stored", num=len(kept), reason=error.reason)
                return
            for journal, outcome in zip(kept, outcomes, strict=True):
                _note(journal, outcome)


def _is_due(journal: Journal, now: float) -> bool:
    """Tell whether the store wants news of it, or a sign of life."""
    is_silent = now - journal.extended_at > _HEARTBEAT_S
    return journal.lease is not None and (journal.has_pending or is_silent)


def _note(journal: Journal, outcome: ExtensionOutcome) -> None:
    """A caller who reads gets the rest even if the store has lost the journal."""
    if outcome.holding is Holding.HELD:
        journal.extended_at = monotonic()
        journal.note_stored(outcome.num_entries)
        return
    log.warning("lease_ended", holding=outcome.holding.name)
    journal.lease = None
    if outcome.holding is Holding.LOST or not journal.has_readers:
        journal.interrupt()
