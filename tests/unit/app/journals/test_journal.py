"""A journal while it is written: readers and the run, without a store."""

import asyncio
from collections.abc import Coroutine

from app.journals.entries import Closed, ConversationBegun, Produced
from app.journals.journal import Journal, Reader, Reading
from app.journals.notices import Notice
from app.state.journals import Lease

A, B, C = (Produced((token_id,), "abc"[token_id]) for token_id in range(3))
BEGUN = ConversationBegun("demo", 8)


def journal_of(*entries: Produced) -> Journal:
    """A journal that is kept."""
    journal = Journal("j", "me", [BEGUN], lease=Lease("j", 1))
    journal.append(*entries)
    return journal


async def entries_of(reader: Reader) -> tuple[int, list[object]]:
    """Return the next reading's number and entries."""
    reading = await reader.next()
    assert reading is not None
    return reading.start, list(reading.entries)


async def is_waiting(work: Coroutine[None, None, object]) -> bool:
    """Tell whether something has not ended after a few turns of the loop."""
    task = asyncio.ensure_future(work)
    for _ in range(5):
        await asyncio.sleep(0)
    is_over = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return not is_over


async def test_each_reader_gets_every_entry_once_from_its_own_place_on() -> None:
    """What is there comes at once, what is written later when it is."""
    journal = journal_of(A)
    with journal.reading(0) as first, journal.reading(2) as second:
        assert await entries_of(first) == (0, [BEGUN, A])
        journal.append(B, C)
        assert await entries_of(first) == (2, [B, C])
        assert await entries_of(second) == (2, [B, C])


async def test_reading_ends_when_the_run_has_ended_and_all_is_read() -> None:
    """Not before."""
    journal = journal_of(A)
    with journal.reading(1) as reader:
        journal.append(Closed())
        journal.close()

        assert await entries_of(reader) == (1, [A, Closed()])
        assert await reader.next() is None


async def test_a_notice_reaches_those_who_read_now_and_is_no_entry() -> None:
    """Whoever comes later has missed nothing that still holds."""
    journal = journal_of()
    notice = Notice("hop_lost", ())
    with journal.reading(1) as reader:
        journal.notify(notice)
        assert await reader.next() == Reading(1, [], (notice,))
    with journal.reading(1) as late:
        assert await is_waiting(late.next())


async def test_a_run_waits_for_a_reader_who_is_far_behind() -> None:
    """So a slow caller does not fill the memory; nobody waits for a caller who has left."""
    journal = journal_of()
    with journal.reading(0) as reader:
        journal.append(*[A] * 64)
        assert await is_waiting(journal.wait_room())
        await reader.next()
        assert not await is_waiting(journal.wait_room())
        journal.append(*[A] * 65)
        waiting = asyncio.ensure_future(journal.wait_room())
        await asyncio.sleep(0)
    await waiting


async def test_several_who_write_one_journal_wait_for_its_reader_together() -> None:
    """Choices of one answer do."""
    journal = journal_of()
    with journal.reading(0) as reader:
        journal.append(*[A] * 65)
        writers = [asyncio.ensure_future(journal.wait_room()) for _ in range(3)]
        await asyncio.sleep(0)

        await reader.next()
        await asyncio.gather(*writers)


async def test_only_what_the_store_lacks_is_sent_to_it() -> None:
    """A store that has forgotten some gets them again."""
    journal = journal_of(A, B)
    assert (journal.pending().start, len(journal.pending().entries)) == (1, 2)

    journal.note_stored(3)
    assert not journal.has_pending
    journal.note_stored(2)

    assert (journal.pending().start, len(journal.pending().entries)) == (2, 1)


async def test_a_reader_who_waits_takes_entries_while_they_are_written() -> None:
    """Its task sleeps on until there is something that it alone can pass on: the end."""
    journal, taken = journal_of(A), list[Reading]()

    def take(reading: Reading) -> bool:
        taken.append(reading)
        return True

    with journal.reading(0, take) as reader:
        journal.append(B)
        assert await entries_of(reader) == (0, [BEGUN, A, B])
        coming = asyncio.ensure_future(reader.next())
        await asyncio.sleep(0)
        journal.append(A)
        journal.append(B, C)
        journal.append(Closed())

        assert await coming == Reading(6, [Closed()])
    assert taken == [Reading(3, [A]), Reading(4, [B, C])]


async def test_what_a_reader_cannot_take_at_once_its_task_gets() -> None:
    """As when the caller does not take what was written before; nothing is lost or doubled."""
    journal = journal_of()
    with journal.reading(1, lambda reading: False) as reader:
        coming = asyncio.ensure_future(reader.next())
        await asyncio.sleep(0)
        journal.append(A)
        journal.append(B)

        assert await coming == Reading(1, [A, B])
