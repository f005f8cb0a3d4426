"""An event loop in a thread of its own, so that notebooks and scripts can call async code."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from swarm_client.errors import ModelClosedError

Result = TypeVar("Result")

_MAX_UNWINDING_S: Final = 5.0


class LoopThread:
    """A daemon thread that runs an event loop until `close`.

    It outlives every node made in it: the kernel ends a node's daemon with the *thread* that
    started it.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
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
        has_ended = threading.Event()

        async def run_to_the_end() -> Result:
            try:
                return await coroutine
            finally:
                has_ended.set()

        future = asyncio.run_coroutine_threadsafe(run_to_the_end(), self._loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                has_ended.wait(_MAX_UNWINDING_S)
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
