"""Work beside a block."""

import asyncio

from structlog.testing import capture_logs

from app.background import in_background


async def test_it_runs_while_the_block_does_and_has_ended_behind_it() -> None:
    """What it closes in `finally` is closed then."""
    steps = []

    async def work() -> None:
        steps.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("closed")

    async with in_background(work(), name="work"):
        await asyncio.sleep(0)
        steps.append("block")

    assert steps == ["begun", "block", "closed"]


async def test_a_failure_of_it_is_told_at_once_and_does_not_end_the_block() -> None:
    """Nobody waits for it before the block has ended."""

    async def work() -> None:
        raise OSError("the disk")

    with capture_logs() as logged:
        async with in_background(work(), name="work"):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            told = [(each["event"], each["task"]) for each in logged]

    assert told == [("background_task_failed", "work")]
