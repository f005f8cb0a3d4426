"""Ends work for callers who have left."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from app.admission import CallerLeftError

Result = TypeVar("Result")


async def run_beside(
    watch: Coroutine[Any, Any, None],
    work: Coroutine[Any, Any, Result],
    *,
    on_silence: Callable[[], Awaitable[None]] | None = None,
    period_s: float | None = None,
) -> Result:
    """Run `work` and return its result, unless `watch` raises first: then `work` is cancelled.

    Both have ended when this returns or raises.

    Args:
        watch: never returns before `work` has ended.
        on_silence: called every `period_s` seconds while `work` goes on; what it raises ends it.
    """
    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(watch)
    try:
        while True:
            done, _ = await asyncio.wait(
                {task, watcher}, timeout=period_s, return_when=asyncio.FIRST_COMPLETED
            )
            if task in done:
                return task.result()
            if watcher in done:
                watcher.result()
            if on_silence is not None:
                await on_silence()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def run_to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` even when we are cancelled meanwhile; the cancellation is raised after it.

    For closing what must be closed; `work` must be bounded in time.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def wait_for_disconnect(receive: Receive) -> None:
    """Return never; to be run once the request's body has been read.

    Raises:
        CallerLeftError: the caller left.
    """
    while (await receive())["type"] != "http.disconnect":
        pass
    raise CallerLeftError
