"""Calls on a daemon that may end at any moment, for callers who may leave at any moment."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from swarm_protocol.errors import NodeError

Result = TypeVar("Result")

_ENDED: Final = "the libp2p daemon of this process has ended"


async def while_running(call: Coroutine[Any, Any, Result], stopped: asyncio.Event) -> Result:
    """Await a call on a daemon; it is cancelled when the daemon, or the caller, is gone first.

    Args:
        call: what it raises is raised here.
        stopped: set when the daemon has ended.

    Raises:
        NodeError: the daemon has ended.
    """
    if stopped.is_set():
        call.close()
        raise NodeError(_ENDED)
    task = asyncio.ensure_future(call)
    task.add_done_callback(heed)
    ended = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise NodeError(_ENDED)
        return task.result()
    finally:
        ended.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


def heed(task: asyncio.Future[Any]) -> None:
    """Take note of a failure: who has left does not ask for it, and asyncio would log it."""
    if not task.cancelled():
        task.exception()
