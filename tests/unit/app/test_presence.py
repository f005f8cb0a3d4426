"""Work for callers who may leave."""

import asyncio
import gc
import weakref
from contextlib import suppress

import pytest

from app.admission import CallerLeftError
from app.closing import run_to_the_end
from app.presence import run_beside


async def _never() -> None:
    await asyncio.Event().wait()


async def _leave() -> None:
    raise CallerLeftError


async def test_result_of_the_work_is_returned() -> None:
    """The watcher is gone then."""

    async def work() -> int:
        return 7

    before = asyncio.all_tasks()

    assert await run_beside(_never(), work()) == 7
    assert asyncio.all_tasks() == before


async def test_work_has_ended_when_the_caller_has_left() -> None:
    """What it releases in `finally` is released."""
    has_ended = False

    async def work() -> None:
        nonlocal has_ended
        try:
            await _never()
        finally:
            await asyncio.sleep(0)
            has_ended = True

    with pytest.raises(CallerLeftError):
        await run_beside(_leave(), work())

    assert has_ended


async def test_both_end_when_we_are_cancelled() -> None:
    """No task stays behind."""
    before = asyncio.all_tasks()
    task = asyncio.create_task(run_beside(_never(), _never()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert asyncio.all_tasks() == before


async def test_both_reasons_to_end_leave_nothing_behind() -> None:
    """A caller who leaves while somebody cancels us: the cancellation is the stronger one."""
    leaving = asyncio.Event()

    async def leave() -> None:
        await leaving.wait()
        raise CallerLeftError

    task = asyncio.create_task(run_beside(leave(), _never()))
    await asyncio.sleep(0)
    leaving.set()
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_outer_of_two_watches_ends_the_inner_work() -> None:
    """As a connection's reader does, whatever else is watched inside."""
    before = asyncio.all_tasks()

    with pytest.raises(CallerLeftError):
        await run_beside(_leave(), run_beside(_never(), _never()))

    assert asyncio.all_tasks() == before
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_silence_is_noticed_again_and_again_until_that_fails() -> None:
    """An error of it ends the work."""
    num_calls = 0

    async def call() -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 3:
            raise CallerLeftError

    with pytest.raises(CallerLeftError):
        await run_beside(_never(), _never(), on_silence=call, period_s=0.001)

    assert num_calls == 3


async def test_closing_is_not_cut_short_by_a_cancellation() -> None:
    """The cancellation comes after it."""
    begun, may_end, has_ended = asyncio.Event(), asyncio.Event(), False

    async def close() -> None:
        nonlocal has_ended
        begun.set()
        await may_end.wait()
        has_ended = True

    task = asyncio.create_task(run_to_the_end(close()))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert has_ended


class Held:
    """What a request holds."""


async def _serve(*, is_left: bool) -> "weakref.ref[Held]":
    held, is_over = Held(), asyncio.Event()

    async def watch() -> None:
        await (asyncio.sleep(0) if is_left else is_over.wait())
        raise CallerLeftError

    async def work() -> None:
        await (is_over.wait() if is_left else asyncio.sleep(0))
        assert held is not None

    async def on_silence() -> None:
        assert held is not None

    with suppress(CallerLeftError):
        await run_beside(watch(), work(), on_silence=on_silence, period_s=60)
    return weakref.ref(held)


@pytest.mark.parametrize("is_left", [False, True])
async def test_what_has_ended_is_freed_without_the_collector(is_left: bool) -> None:
    """Thousands of requests, and all that they have said, would else wait for it."""
    gc.disable()
    try:
        held = await asyncio.create_task(_serve(is_left=is_left))
        await asyncio.sleep(0)

        assert held() is None
    finally:
        gc.enable()
