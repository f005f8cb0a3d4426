"""When journals go to the store, by the keeper that the gateway uses."""

from app.journals.entries import ConversationBegun, Produced
from app.journals.journal import Journal
from app.journals.keeper import JournalKeeper
from app.state.memory_journals import MemoryJournalStore

BEGUN = ConversationBegun("demo", 64)
TOKEN = Produced((5,), "five")


async def write_one_token(journal: Journal) -> None:
    journal.append(TOKEN)


async def test_a_store_that_nobody_shares_gets_a_journal_at_its_end() -> None:
    """It dies with its only reader, so what is being written is nowhere else."""
    store = MemoryJournalStore(lambda: 0.0)
    keeper = JournalKeeper(store, resume_s=60, abandoned_s=5)

    journal = await keeper.create("me", BEGUN)
    num_at_first = await store.count()
    keeper.start(journal, write_one_token(journal))
    await journal.closed.wait()

    assert num_at_first == 0
    assert len((await store.read(journal.id, owner="me", start=0)).entries) == 3
