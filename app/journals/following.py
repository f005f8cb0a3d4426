"""Reading a journal wherever it is written: here, on another worker, or nowhere until we go on."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from app.errors import DrainingError, HandedOverError
from app.journals.entries import decode_entry, is_end
from app.journals.journal import Journal, Reading, Taker, take_nothing
from app.journals.keeper import JournalKeeper
from app.state.errors import JournalLeasedError

_POLL_S: Final = 0.05

Revive = Callable[[Journal], Awaitable[None]]
"""Starts a new run of a journal that was taken. An error of it leaves the journal to others."""


async def follow(
    keeper: JournalKeeper,
    journal_id: str,
    owner: str,
    revive: Revive,
    take_now: Taker = take_nothing,
) -> AsyncGenerator[Reading, None]:
    """Give everything from the first entry on, and end behind the last.

    Readings are yielded, but for those that `take_now` takes while the next one is waited for.

    Raises:
        JournalNotFoundError: gone, never was, or owned by somebody else.
        HandedOverError: the gateway stops, and another one can go on.
        SwarmError: it cannot be revived now, or the store does not answer.
    """
    start = 0

    def take(reading: Reading) -> bool:
        nonlocal start
        is_taken = take_now(reading)
        if is_taken:
            start = reading.end
        return is_taken

    while True:
        journal = keeper.find(journal_id, owner)
        readings = (
            _read_remote(keeper, journal_id, owner, start)
            if journal is None
            else _read_local(journal, start, take)
        )
        async with aclosing(readings):
            async for reading in readings:
                yield reading
                start = reading.end
                if reading.entries and is_end(reading.entries[-1]):
                    return
        if journal is None:
            await take_over(keeper, journal_id, owner, revive)


async def _read_local(journal: Journal, start: int, take: Taker) -> AsyncGenerator[Reading, None]:
    """Yield until the run ends here."""
    with journal.reading(start, take) as reader:
        while (reading := await reader.next()) is not None:
            yield reading
    if journal.is_handed_over:
        raise HandedOverError if journal.is_kept else DrainingError


async def _read_remote(
    keeper: JournalKeeper, journal_id: str, owner: str, start: int
) -> AsyncGenerator[Reading, None]:
    """Yield until nobody writes it any more."""
    while True:
        part = await keeper.read(journal_id, owner, start)
        if part.entries:
            yield Reading(start, [decode_entry(data) for data in part.entries])
            start += len(part.entries)
        elif part.is_leased:
            await asyncio.sleep(_POLL_S)
        else:
            return


async def take_over(keeper: JournalKeeper, journal_id: str, owner: str, revive: Revive) -> None:
    """Write a journal ourselves, unless another worker was faster. Raises as `follow` does."""
    try:
        journal = await keeper.take(journal_id, owner)
    except JournalLeasedError:
        return
    try:
        await revive(journal)
    except BaseException:
        await keeper.give_back(journal)
        raise
