"""Closes what must be closed, whoever cancels meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any


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
