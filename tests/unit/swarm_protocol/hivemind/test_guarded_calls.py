"""Calls on a daemon end with it, and trouble nobody after their caller has left."""

import asyncio
import gc
from contextlib import suppress
from typing import Any

import pytest

from swarm_protocol.errors import NodeError
from swarm_protocol.hivemind.guarded_calls import while_running


async def test_a_result_is_returned_and_an_error_raised() -> None:
    """As if the call had been awaited."""

    async def answer() -> int:
        return 3

    async def fail() -> int:
        raise KeyError("gone")

    assert await while_running(answer(), asyncio.Event()) == 3
    with pytest.raises(KeyError, match="gone"):
        await while_running(fail(), asyncio.Event())


async def test_a_call_ends_with_the_daemon() -> None:
    """One that is under way is cancelled, and one that comes later never begins."""
    stopped, ends = asyncio.Event(), list[str]()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    asyncio.get_running_loop().call_soon(stopped.set)

    with pytest.raises(NodeError, match="has ended"):
        await while_running(wait(), stopped)
    with pytest.raises(NodeError, match="has ended"):
        await while_running(wait(), stopped)
    assert ends == ["cancelled"]


async def test_a_failure_after_the_caller_has_left_is_nobodys() -> None:
    """No 'exception was never retrieved' on the loop, in whichever turn the two come together."""
    loop, complaints = asyncio.get_running_loop(), list[dict[str, Any]]()
    usual = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    for num_turns in range(6):
        failing = loop.create_future()
        caller = asyncio.create_task(while_running(_await(failing), asyncio.Event()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        failing.set_exception(KeyError("gone"))
        for _ in range(num_turns):
            await asyncio.sleep(0)
        caller.cancel()
        with suppress(asyncio.CancelledError, KeyError):
            await caller
        del caller
    gc.collect()
    loop.set_exception_handler(usual)

    assert complaints == []


async def _await(future: asyncio.Future[int]) -> int:
    return await future
