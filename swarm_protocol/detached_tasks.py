"""Tasks that belong to nobody in particular, though somebody has to start them."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

Result = TypeVar("Result")


def start_detached(
    work: Coroutine[Any, Any, Result], *, name: str | None = None
) -> asyncio.Task[Result]:
    """Start a task that outlives whoever starts it, or that others share.

    It inherits no context variables: what it logs a minute later would else bear the id of the
    request that happened to come first, and keep alive what that request had bound.

    Returns:
        The task, to be kept, and cancelled or awaited, by its owner.
    """
    return asyncio.create_task(work, name=name, context=Context())
