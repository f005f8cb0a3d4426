"""When journals go to the store, by the keeper that the gateway uses."""

import asyncio
from typing import Any

from structlog.testing import capture_logs

from app.journals.entries import ConversationBegun, Produced
from app.journals.journal import Journal
from app.journals.keeper import JournalKeeper
from app.state.errors import StateUnavailableError
from app.state.journals import Lease
from app.state.memory_journals import MemoryJournalStore
from tests.harness.shared_store import SharedJournalStore

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


class StoreThatComesBack(SharedJournalStore):
    """Away for the first attempts."""

    num_refusals = 3

    async def create(self, *args: Any, **kwargs: Any) -> Lease:
        if self.num_refusals:
            self.num_refusals -= 1
            raise StateUnavailableError("gone")
        return await super().create(*args, **kwargs)


async def test_an_outage_is_two_lines_in_the_log() -> None:
    """However often the store is tried meanwhile."""
    keeper = JournalKeeper(StoreThatComesBack(lambda: 0.0), resume_s=60, abandoned_s=5)

    with capture_logs() as logged:
        async with keeper.running():
            journal = await keeper.create("me", BEGUN)
            keeper.start(journal, write_one_token(journal))
            async with asyncio.timeout(10):
                while logged[-1]["event"] != "journals_stored_again":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    assert [line["event"] for line in logged][:2] == [
        "journals_not_stored",
        "journals_stored_again",
    ]
