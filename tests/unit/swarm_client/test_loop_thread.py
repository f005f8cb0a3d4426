"""A loop in a thread, for callers without one."""

import asyncio
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from swarm_client import loop_thread
from swarm_client.errors import ModelClosedError
from swarm_client.loop_thread import LoopThread


async def name_of_thread() -> str:
    return threading.current_thread().name


def test_coroutines_run_in_the_thread() -> None:
    """And their result, or error, reaches the caller."""
    thread = LoopThread()

    async def fail() -> None:
        raise KeyError("x")

    assert thread.run(name_of_thread()) == "swarm-client"
    with pytest.raises(KeyError):
        thread.run(fail())
    thread.close()


def test_closing_cancels_what_still_runs() -> None:
    """Twice is no harm; then it runs nothing more."""
    thread = LoopThread()
    cancelled = threading.Event()

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def start() -> asyncio.Task[None]:
        task = asyncio.create_task(wait_for_ever())
        await asyncio.sleep(0)
        return task

    task = thread.run(start())
    thread.close()
    thread.close()

    assert cancelled.is_set()
    assert task.cancelled()
    with pytest.raises(ModelClosedError):
        thread.run(name_of_thread())


def test_closing_tells_the_threads_that_wait() -> None:
    """What they wait for will never come."""
    thread = LoopThread()
    has_begun = threading.Event()

    async def wait_for_ever() -> None:
        has_begun.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: thread.run(wait_for_ever()))
        assert has_begun.wait(10)
        thread.close()

        with pytest.raises(ModelClosedError):
            waiting.result(10)


def test_closing_tells_who_comes_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coroutine that begins when the loop has just been stopped never ends."""
    thread = LoopThread()
    start = loop_thread._Call.start

    def begin_late(call: loop_thread._Call[None]) -> None:
        loop = asyncio.get_running_loop()
        loop.stop()  # in uvloop's next turn
        loop.call_soon(loop.call_soon, start, call)

    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(loop_thread._Call, "start", begin_late)
    with ThreadPoolExecutor(1) as threads, pytest.raises(ModelClosedError):
        threads.submit(lambda: thread.run(wait_for_ever())).result(10)


def test_closing_tells_who_comes_right_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though they have just seen that it was open."""
    thread = LoopThread()
    coroutine = name_of_thread()

    def close_first(call: loop_thread._Call[str], *arguments: Any) -> None:
        thread.close()
        begin(call, *arguments)

    begin = loop_thread._Call.__init__
    monkeypatch.setattr(loop_thread._Call, "__init__", close_first)
    with pytest.raises(ModelClosedError):
        thread.run(coroutine)


def test_it_does_not_wait_for_itself() -> None:
    """That would never end."""
    thread = LoopThread()

    async def nest() -> str:
        return thread.run(name_of_thread())

    with pytest.raises(RuntimeError, match="itself"):
        thread.run(nest())
    thread.close()


def test_an_interrupt_is_raised_when_the_coroutine_has_ended() -> None:
    """Ctrl-C in a notebook must not leave half a step behind."""
    thread = LoopThread()
    main_thread = threading.get_ident()
    steps: list[str] = []

    async def be_interrupted() -> None:
        signal.pthread_kill(main_thread, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("unwound")

    with pytest.raises(KeyboardInterrupt):
        thread.run(be_interrupted())

    assert steps == ["unwound"]
    thread.close()


def test_an_interrupt_before_the_wait_ends_the_coroutine_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may come as soon as the coroutine was sent to the loop."""
    thread = LoopThread()
    wait = loop_thread._Call.wait

    def be_interrupted(call: loop_thread._Call[None]) -> None:
        monkeypatch.setattr(loop_thread._Call, "wait", wait)
        raise KeyboardInterrupt

    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    async def others() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - {asyncio.current_task()}

    monkeypatch.setattr(loop_thread._Call, "wait", be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        thread.run(wait_for_ever())

    assert not thread.run(others())
    thread.close()
