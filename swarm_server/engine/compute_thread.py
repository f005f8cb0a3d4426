"""The one thread in which a server's tensors are computed, so that the event loop never waits."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


class ComputeThread:
    """Runs functions one after another, in the order of submission."""

    def __init__(self, num_threads: int | None = None) -> None:
        """Start the thread.

        Args:
            num_threads: how many threads one tensor operation may use; None leaves torch's choice.
        """

        def set_up() -> None:
            if num_threads is not None:
                torch.set_num_threads(num_threads)

        self._executor = ThreadPoolExecutor(1, "swarm-compute", initializer=set_up)

    def submit(self, function: Callable[[], Result]) -> Future[Result]:
        """Queue a function; the future also tells when it has really ended."""
        return self._executor.submit(function)

    async def run(self, function: Callable[[], Result]) -> Result:
        """Return the function's result. A cancelled wait does not stop a function that runs."""
        return await asyncio.wrap_future(self.submit(function))

    async def close(self) -> None:
        """Drop what is queued, wait for what runs, end the thread. Idempotent."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)
