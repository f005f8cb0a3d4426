"""Ends work for callers who have left."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from app.admission import CallerLeftError
from app.direct_writes import DirectBody

Result = TypeVar("Result")


async def run_beside(
    watch: Coroutine[Any, Any, None] | asyncio.Future[None],
    work: Coroutine[Any, Any, Result],
    *,
    on_silence: Callable[[], Coroutine[Any, Any, None]] | None = None,
    period_s: float | None = None,
) -> Result:
    """Run `work` and return its result, unless `watch` raises first: then `work` is cancelled.

    Both have ended when this returns or raises. `work` runs in the caller's task, so that none
    waits for both; a watch that is a future costs no task either.

    Args:
        watch: never returns before `work` has ended.
        on_silence: called every `period_s` seconds while `work` goes on; what it raises ends it.
    """
    task = asyncio.current_task()
    assert task is not None
    beside = _Beside(task)
    beside.add(watch)
    if on_silence is not None:
        assert period_s is not None, "how often"
        beside.call_every(period_s, on_silence)
    try:
        return await work
    except asyncio.CancelledError:
        if beside.error is None or task.cancelling() > 1:  # somebody else cancels us, too
            raise
        raise beside.error from None
    finally:
        if beside.error is not None:
            task.uncancel()
            beside.error = None  # it holds this frame, and so all of the request
        await beside.end()


class _Beside:
    """What runs beside a task, and cancels it when it fails.

    Attributes:
        error: why it was cancelled.
    """

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self._task = task
        self._running: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._period_s = 0.0
        self._call: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._calling: asyncio.Future[None] | None = None
        self._has_ended = False
        self.error: BaseException | None = None

    def add(self, work: Coroutine[Any, Any, None] | asyncio.Future[None]) -> asyncio.Future[None]:
        """Run it until it ends, or `end` is called."""
        running = asyncio.ensure_future(work)
        self._running.add(running)
        running.add_done_callback(self._note_end)
        return running

    def call_every(self, period_s: float, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Call it again and again, once at a time."""
        self._period_s, self._call = period_s, call
        self._timer = asyncio.get_running_loop().call_later(period_s, self._turn)

    async def end(self) -> None:
        """Cancel all of it, and wait until it has ended."""
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _turn(self) -> None:
        assert self._call is not None
        self._timer = asyncio.get_running_loop().call_later(self._period_s, self._turn)
        if self._calling is None or self._calling.done():
            self._calling = self.add(self._call())

    def _note_end(self, ended: asyncio.Future[None]) -> None:
        self._running.discard(ended)
        error = None if ended.cancelled() else ended.exception()
        if error is not None and self.error is None and not self._has_ended:
            self.error = error
            self._task.cancel()


def caller_left(
    receive: Receive, body: DirectBody | None
) -> Coroutine[Any, Any, None] | asyncio.Future[None]:
    """Return a watch of the caller, to be made once the request's body has been read.

    Args:
        body: the short way to the connection, where there is one.
    """
    return wait_for_disconnect(receive) if body is None else body.left()


async def wait_for_disconnect(receive: Receive) -> None:
    """Return never; to be run once the request's body has been read.

    Raises:
        CallerLeftError: the caller left.
    """
    while (await receive())["type"] != "http.disconnect":
        pass
    raise CallerLeftError
