"""How long a run goes on that nobody reads."""

import asyncio

from app.journals.patience import Patience


async def turn(times: int = 5) -> None:
    """Let the loop turn."""
    for _ in range(times):
        await asyncio.sleep(0)


async def test_it_is_over_when_nobody_has_read_for_so_long() -> None:
    """From the beginning, if nobody comes."""
    patience, stopped = Patience(), asyncio.Event()

    with patience.watching(0.001, stopped.set):
        await stopped.wait()

    assert patience.is_over


async def test_it_lasts_while_somebody_reads_and_begins_anew_behind_the_last() -> None:
    """A reader who comes in time changes that."""
    patience, stopped = Patience(), asyncio.Event()

    with patience.watching(0, stopped.set):
        patience.note_readers(has_readers=True)
        await turn()
        assert not stopped.is_set()
        patience.note_readers(has_readers=False)
        await stopped.wait()


async def test_it_is_over_at_once_when_told_so() -> None:
    """Whoever reads; the one who says so is not stopped in the middle of it."""
    patience, stops = Patience(), list[str]()
    patience.note_readers(has_readers=True)

    with patience.watching(60, lambda: stops.append("stop")):
        patience.end()
        assert not stops
        await turn()
        patience.end()
        await turn()

    assert stops == ["stop"]


async def test_what_was_told_before_the_watch_counts() -> None:
    """A run may be interrupted before it has begun."""
    patience, stopped = Patience(), asyncio.Event()
    patience.end()

    with patience.watching(60, stopped.set):
        await stopped.wait()


async def test_nobody_is_stopped_behind_the_block() -> None:
    """The run has ended by itself."""
    patience, stops = Patience(), list[str]()

    with patience.watching(0, lambda: stops.append("stop")):
        patience.end()
    await turn()

    assert not stops
