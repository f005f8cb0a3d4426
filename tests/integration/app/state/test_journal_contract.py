"""What every journal store promises."""

from typing import Final

import pytest

from app.state.errors import JournalExistsError, JournalLeasedError, JournalNotFoundError
from app.state.journals import (
    Extension,
    ExtensionOutcome,
    Holding,
    JournalPart,
    Lease,
    Terms,
)
from tests.integration.app.state.store_under_test import StoreUnderTest

TERMS: Final = Terms(lease_s=3, keep_s=60)


async def create(store: StoreUnderTest, journal_id: str = "j1", owner: str = "me") -> Lease:
    """Keep a journal of two entries."""
    return await store.journals.create(
        journal_id, owner=owner, entries=[b"a", b"\x00\xff"], terms=TERMS
    )


async def extend(
    store: StoreUnderTest, lease: Lease, start: int, *entries: bytes, is_last: bool = False
) -> ExtensionOutcome:
    """Extend one journal."""
    extension = Extension(lease, start, entries, is_last)
    (outcome,) = await store.journals.extend([extension], terms=TERMS)
    return outcome


async def read(store: StoreUnderTest, start: int = 0) -> JournalPart:
    """Read the journal as its owner."""
    return await store.journals.read("j1", owner="me", start=start)


async def test_a_journal_is_read_as_it_was_written_from_any_number_on(
    store: StoreUnderTest,
) -> None:
    """Entries are bytes of any kind; beyond the end there is nothing yet."""
    lease = await create(store)
    await extend(store, lease, 2, b"c", b"d")

    assert (await read(store)).entries == (b"a", b"\x00\xff", b"c", b"d")
    assert (await read(store, 3)).entries == (b"d",)
    assert (await read(store, 9)).entries == ()


async def test_an_id_is_created_once(store: StoreUnderTest) -> None:
    """Nobody can replace a journal by creating it again, least of all a stranger."""
    await create(store)

    with pytest.raises(JournalExistsError):
        await create(store, owner="you")

    assert (await read(store)).entries == (b"a", b"\x00\xff")


async def test_sending_an_extension_twice_adds_its_entries_once(store: StoreUnderTest) -> None:
    """An answer that was lost makes the writer send again, perhaps with more."""
    lease = await create(store)

    await extend(store, lease, 2, b"c", b"d")
    again = await extend(store, lease, 2, b"c", b"d", b"e")

    assert again == ExtensionOutcome(Holding.HELD, 5)
    assert (await read(store, 2)).entries == (b"c", b"d", b"e")


async def test_entries_behind_a_hole_are_not_added(store: StoreUnderTest) -> None:
    """The outcome tells from where on they are wanted."""
    lease = await create(store)

    outcome = await extend(store, lease, 5, b"f")

    assert outcome == ExtensionOutcome(Holding.HELD, 2)
    assert len((await read(store)).entries) == 2


async def test_many_journals_are_extended_in_one_call(store: StoreUnderTest) -> None:
    """Each has its own outcome; one that cannot be does not stop the others."""
    leases = [await create(store, name) for name in ("j1", "j2", "j3")]
    await store.journals.delete("j2", owner="me")

    outcomes = await store.journals.extend(
        [Extension(lease, 2, (b"c",) * n) for n, lease in enumerate(leases)], terms=TERMS
    )

    expected = [Holding.HELD, Holding.DELETED, Holding.HELD]
    assert [outcome.holding for outcome in outcomes] == expected
    assert [outcome.num_entries for outcome in outcomes] == [2, 0, 4]


async def test_nobody_takes_a_journal_while_its_lease_lasts(store: StoreUnderTest) -> None:
    """Extensions prolong it, even without entries."""
    lease = await create(store)
    await store.pass_time(2)
    await extend(store, lease, 2)
    await store.pass_time(2)

    assert (await read(store)).is_leased
    with pytest.raises(JournalLeasedError):
        await store.journals.take("j1", owner="me", terms=TERMS)


async def test_a_lease_that_has_run_out_goes_to_one_other_who_alone_may_write(
    store: StoreUnderTest,
) -> None:
    """The first writer, perhaps only slow, adds nothing any more."""
    first = await create(store)
    await store.pass_time(4)
    assert not (await read(store)).is_leased

    second = await store.journals.take("j1", owner="me", terms=TERMS)
    with pytest.raises(JournalLeasedError):
        await store.journals.take("j1", owner="me", terms=TERMS)

    assert second.number > first.number
    assert (await extend(store, first, 2, b"old")).holding is Holding.LOST
    assert (await extend(store, second, 2, b"new")).holding is Holding.HELD
    assert (await read(store, 2)).entries == (b"new",)


async def test_a_late_writer_keeps_a_lease_that_nobody_has_taken(store: StoreUnderTest) -> None:
    """A pause of the writer costs nothing unless somebody else went on."""
    lease = await create(store)
    await store.pass_time(4)

    assert (await extend(store, lease, 2, b"c")).holding is Holding.HELD
    assert (await read(store)).is_leased


async def test_a_lease_given_back_can_be_taken_at_once(store: StoreUnderTest) -> None:
    """With the entries that came with it."""
    lease = await create(store)

    await extend(store, lease, 2, b"c", is_last=True)

    assert await read(store, 2) == JournalPart((b"c",), is_leased=False)
    assert (await store.journals.take("j1", owner="me", terms=TERMS)).number > lease.number


async def test_a_stranger_finds_nothing_and_changes_nothing(store: StoreUnderTest) -> None:
    """A wrong owner gets the same answer as for a journal that never was."""
    lease = await create(store)
    await extend(store, lease, 2, is_last=True)

    with pytest.raises(JournalNotFoundError):
        await store.journals.read("j1", owner="you", start=0)
    with pytest.raises(JournalNotFoundError):
        await store.journals.take("j1", owner="you", terms=TERMS)
    await store.journals.delete("j1", owner="you")

    assert len((await read(store)).entries) == 2


async def test_what_never_was_is_not_found(store: StoreUnderTest) -> None:
    """Extending it creates nothing."""
    with pytest.raises(JournalNotFoundError) as caught:
        await read(store)
    outcome = await extend(store, Lease("j1", 1), 0, b"a")

    assert caught.value.journal_id == "j1"
    assert outcome.holding is Holding.GONE
    assert await store.journals.count() == 0


async def test_a_journal_expires_when_nobody_writes(store: StoreUnderTest) -> None:
    """Extending it starts the time anew; afterwards its id is free again."""
    lease = await create(store)
    await store.pass_time(50)
    await extend(store, lease, 2, b"c", is_last=True)
    await store.pass_time(50)
    await read(store)
    await store.pass_time(11)

    with pytest.raises(JournalNotFoundError):
        await read(store)
    assert await store.journals.count() == 0
    await create(store)


async def test_deleting_ends_the_lease_too_and_may_be_repeated(store: StoreUnderTest) -> None:
    """So the writer learns that nobody wants it any more."""
    lease = await create(store)

    await store.journals.delete("j1", owner="me")
    await store.journals.delete("j1", owner="me")

    assert (await extend(store, lease, 2, b"c")).holding is Holding.DELETED
    assert await store.journals.count() == 0


async def test_a_journal_put_there_again_has_the_number_its_writer_chose(
    store: StoreUnderTest,
) -> None:
    """So another worker, which had an old lease, cannot take it for its own."""
    old = await create(store)
    await store.pass_time(61)

    lease = await store.journals.create(
        "j1", owner="me", entries=[b"a"], terms=TERMS, number=2**40 + 7
    )

    assert (await extend(store, old, 1, b"b")).holding is Holding.LOST
    assert await extend(store, lease, 1, b"b") == ExtensionOutcome(Holding.HELD, 2)


async def test_ten_thousand_entries_can_be_added_at_once(store: StoreUnderTest) -> None:
    """Whatever limits scripts have on their arguments."""
    lease = await create(store)

    outcome = await extend(store, lease, 2, *(b"%d" % n for n in range(10_000)))

    assert outcome.num_entries == 10_002
    assert (await read(store, 10_001)).entries == (b"9999",)


async def test_live_journals_are_counted(store: StoreUnderTest) -> None:
    """Strange ids count like others and stay apart."""
    ids = ["j1", "j2", "{j1}", "j1}:entries", "*"]

    for journal_id in ids:
        await create(store, journal_id)

    assert await store.journals.count() == len(ids)
