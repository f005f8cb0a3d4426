"""The batch that runs, and the one that is ready to follow it.

    batch made ──> running ─────────────────> ended, outputs
    batch made ────────────> ready ──> running ──────────────> ended, outputs

A GPU works by itself. While it does, the next batch can be put together, and start the moment that
the one before has ended; whoever waits for outputs hears of them while the GPU is busy again.
Where batches are computed by a thread of ours there is nothing to gain, and none is made ahead.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import NamedTuple, NoReturn, TypeAlias

from swarm_protocol.busy_polling import BusyPolling
from swarm_server.engine.batch import Begun
from swarm_server.engine.compute_thread import ComputeThread
from swarm_server.engine.serving.running_batch import Outputs, PagedSpan, RunningBatch

OnEnd: TypeAlias = Callable[[RunningBatch, Callable[[], Outputs], float], None]
"""Called with a batch, what returns its outputs or raises, and the seconds that it ran."""


class _Ready(NamedTuple):
    batch: RunningBatch
    start: Callable[[], Begun[Outputs]]


class BatchRuns:
    """Runs batches one after the other. For the event loop only."""

    def __init__(
        self, span: PagedSpan, compute: ComputeThread, clock: Callable[[], float], on_end: OnEnd
    ) -> None:
        """Begin with none.

        Args:
            span: computes them.
            compute: the thread on which it does, where no device works by itself.
            clock: in seconds.
            on_end: see there; if another batch was ready, it runs already.
        """
        self._span = span
        self._compute = compute
        self._clock = clock
        self._on_end = on_end
        self._polling = BusyPolling(perf_counter)
        self._running: RunningBatch | None = None
        self._is_on_device = False
        self._ready: _Ready | None = None
        self._started_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs; then nothing is ready either."""
        return self._running is None

    @property
    def has_room(self) -> bool:
        """Whether a batch may be added, if only to be made ready."""
        return self._running is None or (self._is_on_device and self._ready is None)

    def add(self, batch: RunningBatch) -> None:
        """Run a batch as soon as none does; there is room for it."""
        assert self.has_room
        try:
            ready = _Ready(batch, batch.prepare(self._span))
        except Exception as error:  # of tensors that no check has foreseen
            ready = _Ready(batch, partial(_raise, error))
        if self._running is None:
            self._start(ready)
        else:
            self._ready = ready

    def _start(self, ready: _Ready) -> None:
        loop = asyncio.get_running_loop()
        self._running, self._started_at, self._is_on_device = ready.batch, self._clock(), False
        try:
            begun = ready.start()
        except Exception as error:  # the device may fail at any time
            loop.call_soon(self._end, partial(_raise, error))
            return
        if begun.is_done is not None:
            self._is_on_device = True
            self._polling.watch(partial(self._look, begun))
            return
        running = self._compute.submit(begun.finish)
        running.add_done_callback(lambda done: loop.call_soon_threadsafe(self._end, done.result))

    def _look(self, begun: Begun[Outputs]) -> None:
        """See whether a batch on a device has ended."""
        assert begun.is_done is not None
        outcome = begun.finish
        try:
            if not begun.is_done():
                return
        except Exception as error:  # the device may fail at any time
            outcome = partial(_raise, error)
        self._polling.stop_watching()
        self._end(outcome)

    def _end(self, outcome: Callable[[], Outputs]) -> None:
        """Let the next batch start, and only then tell of the one that has ended."""
        batch, took_s = self._running, self._clock() - self._started_at
        assert batch is not None
        self._running, ready, self._ready = None, self._ready, None
        if ready is not None:
            self._start(ready)
        self._on_end(batch, outcome, took_s)


def _raise(error: Exception) -> NoReturn:
    raise error
