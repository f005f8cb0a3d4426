"""Runs and their journals on a store in memory; two keepers on one store are two workers."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

import pytest

from app.errors import DrainingError, HandedOverError
from app.journals.entries import (
    Closed,
    ConversationBegun,
    Entry,
    Failed,
    JournalUnreadableError,
    Produced,
)
from app.journals.following import follow
from app.journals.journal import Journal
from app.journals.keeper import JournalKeeper
from app.state.errors import JournalNotFoundError, StateUnavailableError
from app.state.journals import Extension, ExtensionOutcome, JournalPart, Lease, Terms
from app.state.memory_journals import MemoryJournalStore
from tests.harness.shared_store import SharedJournalStore

BEGUN = ConversationBegun("demo", 64)
TOKENS = [Produced((token_id,), str(token_id)) for token_id in range(10)]


async def until(is_true: Callable[[], bool]) -> None:
    """Let the other tasks run until they have made it true."""
    async with asyncio.timeout(5):
        while not is_true():  # noqa: ASYNC110 - stores have no event to wait for
            await asyncio.sleep(0.001)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FlakyStore(SharedJournalStore):
    """A store that may be away."""

    is_away = False

    async def create(
        self,
        journal_id: str,
        *,
        owner: str,
        entries: Sequence[bytes],
        terms: Terms,
        number: int = 1,
    ) -> Lease:
        self._check()
        return await super().create(
            journal_id, owner=owner, entries=entries, terms=terms, number=number
        )

    async def extend(
        self, extensions: Sequence[Extension], *, terms: Terms
    ) -> Sequence[ExtensionOutcome]:
        self._check()
        return await super().extend(extensions, terms=terms)

    async def read(self, journal_id: str, *, owner: str, start: int) -> JournalPart:
        self._check()
        return await super().read(journal_id, owner=owner, start=start)

    def _check(self) -> None:
        if self.is_away:
            raise StateUnavailableError("gone")

    def lose_everything(self) -> None:
        """Forget all journals, as a Redis without a disk does when it is restarted."""
        self.__init__(self._clock)  # type: ignore[misc]


class Script:
    """Writes tokens when the test allows it, going on where the journal ends."""

    def __init__(self) -> None:
        self.allowed = asyncio.Semaphore(0)

    def allow(self, num_tokens: int) -> None:
        """Let some tokens be written."""
        for _ in range(num_tokens):
            self.allowed.release()

    async def run(self, journal: Journal) -> None:
        """Write the rest."""
        for token in TOKENS[len(journal.entries) - 1 :]:
            await self.allowed.acquire()
            journal.append(token)


@asynccontextmanager
async def worker(
    store: MemoryJournalStore, *, resume_s: float = 60, abandoned_s: float = 5
) -> AsyncGenerator[JournalKeeper]:
    keeper = JournalKeeper(store, resume_s=resume_s, abandoned_s=abandoned_s)
    async with keeper.running():
        yield keeper


async def start(
    keeper: JournalKeeper, run: Callable[[Journal], Coroutine[None, None, None]]
) -> str:
    """Begin a journal and its run; return its id."""
    journal = await keeper.create("me", BEGUN)
    keeper.start(journal, run(journal))
    return journal.id


async def never_revive(journal: Journal) -> None:
    raise AssertionError("nobody should go on with it")


async def read(
    keeper: JournalKeeper,
    journal_id: str,
    *,
    revive: Callable[[Journal], Awaitable[None]] = never_revive,
    into: list[Entry] | None = None,
) -> list[Entry]:
    """Read a journal to its end."""
    entries: list[Entry] = [] if into is None else into
    async for reading in follow(keeper, journal_id, "me", revive):
        assert reading.start == len(entries)
        entries += reading.entries
    return entries


async def test_a_journal_is_read_to_its_end_here_and_on_another_worker() -> None:
    """Before, while and after it is written: the same entries."""
    store, script = SharedJournalStore(Clock()), Script()
    async with worker(store) as one, worker(store) as two:
        journal_id = await start(one, script.run)
        here = asyncio.create_task(read(one, journal_id))
        there = asyncio.create_task(read(two, journal_id))
        script.allow(10)

        expected = [BEGUN, *TOKENS, Closed()]
        assert await here == await there == expected
        assert await read(one, journal_id) == await read(two, journal_id) == expected


async def test_an_error_of_the_run_is_the_last_entry() -> None:
    """Callers get what they may know of it."""

    async def crash(journal: Journal) -> None:
        raise RuntimeError("/secret/path")

    async with worker(SharedJournalStore(Clock())) as keeper:
        entries = await read(keeper, await start(keeper, crash))

    assert isinstance(entries[-1], Failed)
    assert "secret" not in entries[-1].reply.message


async def test_a_run_that_nobody_reads_stops_and_goes_on_when_somebody_comes() -> None:
    """On any worker; nobody pays for what nobody reads."""
    store, script = SharedJournalStore(Clock()), Script()

    async with worker(store, abandoned_s=0.02) as one, worker(store) as two:
        journal_id = await start(one, script.run)
        script.allow(3)
        await until(lambda: one.find(journal_id, "me") is None)

        async def revive(journal: Journal) -> None:
            assert journal.entries == [BEGUN, *TOKENS[:3]]
            two.start(journal, script.run(journal))

        script.allow(7)
        assert await read(two, journal_id, revive=revive) == [BEGUN, *TOKENS, Closed()]


async def test_a_silent_worker_loses_its_lease_and_never_writes_again() -> None:
    """Two workers that both believe to be the one: the store takes one's word only."""
    clock, script = Clock(), Script()
    store = SharedJournalStore(clock)
    async with worker(store) as one, worker(store) as two:
        journal_id = await start(one, script.run)
        old = asyncio.create_task(read(one, journal_id))
        script.allow(3)
        await until(lambda: store_size(store, journal_id) == 4)
        clock.now += 10
        taken = await two.take(journal_id, "me")
        script.allow(7)
        two.start(taken, script.run(taken))

        # The first worker's reader follows the second worker's run from here on.
        assert await old == [BEGUN, *TOKENS, Closed()]
        assert one.find(journal_id, "me") is None


def store_size(store: MemoryJournalStore, journal_id: str) -> int:
    """Return how many entries are stored."""
    journal = store._table.get(journal_id, now=0)
    return 0 if journal is None else len(journal.entries)


async def test_a_store_that_is_away_for_a_while_gets_everything_later() -> None:
    """And the caller notices nothing."""
    store, script = FlakyStore(Clock()), Script()
    async with worker(store) as keeper:
        journal_id = await start(keeper, script.run)
        entries: list[Entry] = []
        reading = asyncio.create_task(read(keeper, journal_id, into=entries))
        store.is_away = True
        script.allow(5)
        await until(lambda: len(entries) == 6)
        store.is_away = False
        script.allow(5)
        await reading

        assert await read(keeper, journal_id) == [BEGUN, *TOKENS, Closed()]


async def test_what_began_while_the_store_was_away_is_stored_later() -> None:
    """Nobody waits for it; when it is back, any worker finds everything."""
    store, script = FlakyStore(Clock()), Script()
    store.is_away = True
    async with worker(store) as one, worker(store) as two:
        journal_id = await start(one, script.run)
        script.allow(3)
        await until(lambda: len(live(one, journal_id).entries) == 4)
        store.is_away = False
        script.allow(7)

        await until(lambda: store_size(store, journal_id) == 12)
        assert await read(two, journal_id) == [BEGUN, *TOKENS, Closed()]


async def test_what_ended_while_the_store_was_away_is_read_here_and_stored_later() -> None:
    """Its end is not lost with its run."""
    store, script = FlakyStore(Clock()), Script()
    async with worker(store) as one, worker(store) as two:
        journal_id = await start(one, script.run)
        store.is_away = True
        script.allow(10)
        await until(lambda: live(one, journal_id).closed.is_set())

        assert await read(one, journal_id) == [BEGUN, *TOKENS, Closed()]
        store.is_away = False
        await until(lambda: store_size(store, journal_id) == 12)
        assert await read(two, journal_id) == [BEGUN, *TOKENS, Closed()]


async def test_a_store_that_has_lost_everything_gets_it_again() -> None:
    """What was acknowledged can be resumed all the same."""
    store, script = FlakyStore(Clock()), Script()
    async with worker(store) as one, worker(store) as two:
        journal_id = await start(one, script.run)
        script.allow(5)
        await until(lambda: store_size(store, journal_id) == 6)
        store.lose_everything()
        script.allow(5)

        await until(lambda: store_size(store, journal_id) == 12)
        assert await read(two, journal_id) == [BEGUN, *TOKENS, Closed()]


async def test_who_comes_before_the_store_has_it_again_is_not_turned_away() -> None:
    """Another worker cannot know of it, so it looks twice."""
    store, script = FlakyStore(Clock()), Script()
    async with worker(store) as one, worker(store) as two:
        journal_id = await start(one, script.run)
        script.allow(5)
        await until(lambda: store_size(store, journal_id) == 6)
        store.lose_everything()
        reading = asyncio.create_task(read(two, journal_id))
        script.allow(5)

        assert await reading == [BEGUN, *TOKENS, Closed()]


async def test_a_journal_that_another_worker_put_there_again_is_left_to_it() -> None:
    """After a store has lost it, only one of two that believe to write it does."""
    store, script = FlakyStore(Clock()), Script()
    async with worker(store) as one, worker(store) as two:
        journal_id = await start(one, script.run)
        reading = asyncio.create_task(read(one, journal_id))
        script.allow(3)
        await until(lambda: store_size(store, journal_id) == 4)
        store.lose_everything()
        stranger = live(one, journal_id)
        await store.create(
            journal_id, owner="me", entries=[b"other"], terms=Terms(0, 60), number=99
        )
        script.allow(1)

        with pytest.raises(JournalUnreadableError):
            await reading
        assert not stranger.is_kept
        assert two.find(journal_id, "me") is None


def live(keeper: JournalKeeper, journal_id: str) -> Journal:
    """Return a journal that the worker has."""
    journal = keeper.find(journal_id, "me")
    assert journal is not None
    return journal


async def test_forgetting_ends_the_run_here_at_once() -> None:
    """Nothing is left of it, for nobody."""
    store, script = SharedJournalStore(Clock()), Script()
    async with worker(store) as keeper:
        journal_id = await start(keeper, script.run)
        await keeper.forget(journal_id, "you")
        assert keeper.find(journal_id, "me") is not None

        await keeper.forget(journal_id, "me")

        assert keeper.find(journal_id, "me") is None
        assert await store.count() == 0


async def test_forgetting_on_another_worker_ends_the_run() -> None:
    """As soon as it writes again."""
    store, script = SharedJournalStore(Clock()), Script()
    async with worker(store) as one, worker(store) as two:
        journal_id = await start(one, script.run)
        reading = asyncio.create_task(read(one, journal_id))
        await two.forget(journal_id, "me")
        script.allow(1)

        await until(lambda: one.find(journal_id, "me") is None)
        with pytest.raises(JournalNotFoundError):
            await reading
        assert await store.count() == 0


async def test_a_stopping_worker_hands_over_at_once() -> None:
    """Its readers are told to come again, and another worker need not wait for the lease."""
    store, script = SharedJournalStore(Clock()), Script()
    async with worker(store) as two:
        async with worker(store) as one:
            journal_id = await start(one, script.run)
            entries: list[Entry] = []
            reading = asyncio.create_task(read(one, journal_id, into=entries))
            script.allow(4)
            await until(lambda: len(entries) == 5)
            await one.hand_over()
            with pytest.raises(HandedOverError):
                await reading

        taken = await two.take(journal_id, "me")
        assert taken.entries == [BEGUN, *TOKENS[:4]]
        await two.give_back(taken)


async def test_without_keeping_there_is_nothing_to_come_back_to() -> None:
    """A run that is stopped then is simply over."""
    store, script = SharedJournalStore(Clock()), Script()
    async with worker(store, resume_s=0) as keeper:
        journal_id = await start(keeper, script.run)
        reading = asyncio.create_task(read(keeper, journal_id))
        await asyncio.sleep(0)
        assert await store.count() == 0
        await keeper.hand_over()

        with pytest.raises(DrainingError):
            await reading


async def test_what_cannot_be_revived_is_left_to_others() -> None:
    """The error is the caller's; the next one may have more luck."""
    store, script = SharedJournalStore(Clock()), Script()

    async def refuse(journal: Journal) -> None:
        raise DrainingError

    async with worker(store, abandoned_s=0.01) as keeper:
        journal_id = await start(keeper, script.run)
        await until(lambda: keeper.find(journal_id, "me") is None)

        with pytest.raises(DrainingError):
            await read(keeper, journal_id, revive=refuse)

        await keeper.give_back(await keeper.take(journal_id, "me"))


async def test_strangers_find_nothing() -> None:
    """Neither here nor in the store."""
    async with worker(SharedJournalStore(Clock())) as keeper:
        journal_id = await start(keeper, Script().run)

        with pytest.raises(JournalNotFoundError):
            async for _ in follow(keeper, journal_id, "you", never_revive):
                pass
