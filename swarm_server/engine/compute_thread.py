"""The one thread in which a server's tensors are computed, so that the event loop never waits."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import torch

Result = TypeVar("Result")


class Urgency(IntEnum):
    """Who goes first when several wait; a lower number goes before a higher one."""

    INFERENCE = 0
    TRAINING = 1


@dataclass(frozen=True, slots=True)
class _Task:
    run: Callable[[], None]
    drop: Callable[[], bool]


class ComputeThread:
    """Runs functions one after another: by urgency, then in the order of submission."""

    def __init__(self, num_threads: int | None = None) -> None:
        """Start the thread.

        Args:
            num_threads: how many threads one tensor operation may use; None leaves torch's choice.
        """

        def set_up() -> None:
            if num_threads is not None:
                torch.set_num_threads(num_threads)

        self._waiting: dict[Urgency, deque[_Task]] = {urgency: deque() for urgency in Urgency}
        self._executor = ThreadPoolExecutor(1, "swarm-compute", initializer=set_up)

    def submit(
        self, function: Callable[[], Result], urgency: Urgency = Urgency.INFERENCE
    ) -> Future[Result]:
        """Queue a function; the future also tells when it has really ended."""
        result: Future[Result] = Future()

        def task() -> None:
            if not result.set_running_or_notify_cancel():
                return
            try:
                result.set_result(function())
            except BaseException as error:  # whoever waits for the result gets it
                result.set_exception(error)

        self._waiting[urgency].append(_Task(task, result.cancel))
        self._executor.submit(self._run_next, max(Urgency))
        return result

    async def run(self, function: Callable[[], Result]) -> Result:
        """Return the function's result. A cancelled wait does not stop a function that runs."""
        return await asyncio.wrap_future(self.submit(function))

    def give_way(self) -> None:
        """Run whatever inference waits now; for a long function, on this thread."""
        while self._run_next(Urgency.INFERENCE):
            pass

    async def close(self) -> None:
        """Drop what is queued, wait for what runs, end the thread. Idempotent."""
        self.leave()
        await asyncio.to_thread(self._executor.shutdown, wait=True)

    def leave(self) -> None:
        """Drop what is queued; the thread ends by itself after what runs, however long it takes."""
        for tasks in self._waiting.values():
            while tasks:
                tasks.popleft().drop()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run_next(self, least: Urgency) -> bool:
        """Run one function that is at least so urgent; False when there is none."""
        for urgency, tasks in self._waiting.items():
            if urgency > least:
                break
            try:
                task = tasks.popleft()
            except IndexError:  # empty, perhaps because `close` has emptied it
                continue
            task.run()
            return True
        return False
