"""An event loop in a thread of its own, so that notebooks and scripts can call async code."""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from swarm_client.errors import ModelClosedError

Result = TypeVar("Result")

_MAX_UNWINDING_S: Final = 5.0
_MAX_BLOCKED_S: Final = 1.0


class _Call(Generic[Result]):
    """A coroutine on its way through the loop, and a thread that waits for it.

    Each step of each session is one. A lock and a task take a third of the time that
    `asyncio.run_coroutine_threadsafe` takes, which chains two futures.
    """

    def __init__(
        self, coroutine: Coroutine[Any, Any, Result], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._task: asyncio.Task[Result] | None = None
        self._running = threading.Lock()
        self._running.acquire()

    def start(self) -> None:
        """Begin; in the loop."""
        self._task = asyncio.get_running_loop().create_task(self._coroutine)
        self._task.add_done_callback(lambda _task: self._running.release())

    def cancel(self) -> None:
        """Cancel the coroutine; in the loop, after `start`."""
        if self._task is not None:
            self._task.cancel()

    def wait(self, max_s: float = inf) -> None:
        """Block until the coroutine has ended, or the loop, on which it may never have begun."""
        deadline = monotonic() + max_s
        while not self._has_ended() and monotonic() < deadline:
            # A signal that comes just before a thread blocks does not wake it.
            self._running.acquire(timeout=min(max_s, _MAX_BLOCKED_S))

    def _has_ended(self) -> bool:
        return (self._task is not None and self._task.done()) or self._loop.is_closed()

    def result(self) -> Result:
        """Return what the coroutine has returned, or raise what it has raised."""
        task = self._task
        if task is None:
            self._coroutine.close()
        if task is None or not task.done() or task.cancelled():
            raise ModelClosedError
        return task.result()


class LoopThread:
    """A daemon thread that runs an event loop until `close`.

    It outlives every node made in it: the kernel ends a node's daemon with the *thread* that
    started it.
    """

    def __init__(self) -> None:
        self._loop = _new_loop()
        self._thread = threading.Thread(target=self._run, name="swarm-client", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the loop and wait for it.

        An interrupt of the wait cancels the coroutine, and is raised when it has ended: what it
        works on is nobody else's until then.

        Raises:
            ModelClosedError: the thread was closed.
            RuntimeError: it is the calling one.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("the loop's own thread would wait for itself")
        if self._loop.is_closed():
            coroutine.close()
            raise ModelClosedError
        call = _Call(coroutine, self._loop)
        try:
            self._send(call.start)
            call.wait()
        except BaseException:  # an interrupt, perhaps before it was waited for
            self._send(call.cancel)
            call.wait(_MAX_UNWINDING_S)
            raise
        return call.result()

    def close(self) -> None:
        """Stop the loop; idempotent. Coroutines that still run are cancelled."""
        if not self._loop.is_closed():
            self._send(self._loop.stop)
            if threading.current_thread() is not self._thread:
                self._thread.join()

    def _send(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # it has been closed meanwhile: whoever waits will see that
            self._loop.call_soon_threadsafe(callback)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop  # it does not exist for Windows

    return uvloop.new_event_loop()
