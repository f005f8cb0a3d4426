"""How a long-running command lives: until a signal, with one ready line and logs on stderr."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, Literal

import typer
import uvloop

from app.observability.logs import configure_logging

_THREADS_S: Final = 2.0
"""What threads have to end after everything was cleaned up. One that waits for a hub, or fetches a
file of it, would keep the process for minutes or hours, and has nothing to clean up."""


def run_until_signalled(
    service: Coroutine[Any, Any, None],
    *,
    log_format: Literal["json", "console"],
    log_level: str = "info",
) -> None:
    """Run `service` to its end, or until SIGINT or SIGTERM cancels it.

    It cleans up in `finally`; a second signal cancels that as well. Threads that still work then
    are left behind.
    """
    configure_logging(log_format, log_level)
    uvloop.run(_cancel_on_signal(service))


def print_ready(**facts: object) -> None:
    """Print the one line that tells the parent process, or a script, that this one serves."""
    typer.echo(json.dumps({"ready": True, **facts}))


async def _cancel_on_signal(service: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(service)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
    if task.cancelled():
        leaving = threading.Timer(_THREADS_S, os._exit, (0,))
        leaving.daemon = True
        leaving.start()
