"""An event loop in a thread of its own, so that notebooks and scripts can call async code."""

import asyncio
import sys
import threading
from collections.abc import Coroutine
from typing import Any, Final, Generic, TypeVar

from swarm_client.errors import ModelClosedError

Result = TypeVar("Result")

_MAX_UNWINDING_S: Final = 5.0


class _Call(Generic[Result]):
    """A coroutine in a loop, which can be cancelled as soon as it was sent there."""

    def __init__(self, coroutine: Coroutine[Any, Any, Result]) -> None:
        self.has_ended = threading.Event()
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None

    async def run(self) -> Result:
        self._task = asyncio.current_task()
        try:
            return await self._coroutine
        finally:
            self.has_ended.set()

    async def cancel(self) -> None:
        """Cancel `run`. It was sent before, so that it has begun by now."""
        if self._task is not None:
            self._task.cancel()


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
        call = _Call(coroutine)
        try:
            return asyncio.run_coroutine_threadsafe(call.run(), self._loop).result()
        except BaseException:
            if not call.has_ended.is_set():  # an interrupt, perhaps before there was a future
                asyncio.run_coroutine_threadsafe(call.cancel(), self._loop)
                call.has_ended.wait(_MAX_UNWINDING_S)
            raise

    def close(self) -> None:
        """Stop the loop; idempotent. Coroutines that still run are cancelled."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            if threading.current_thread() is not self._thread:
                self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop  # it does not exist for Windows

    return uvloop.new_event_loop()
