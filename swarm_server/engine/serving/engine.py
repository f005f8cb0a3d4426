"""The engine: steps of many sessions, computed together in batches.

    submit ──> tickets ──> plan ──> pages ──> compute thread ──> outputs ──> listeners
                  ^                                                 │
                  └── rests of prompts, preempted sessions <────────┘

One batch runs at a time; on a GPU the next may be made meanwhile, of other sessions. Everything
but the computing itself happens on the event loop, so pages and sessions need no locks: what a
batch uses is left alone until it ends.
"""

import asyncio
import logging
from collections.abc import Callable
from itertools import count
from time import perf_counter
from typing import Final

from swarm_protocol.logs import get_logger
from swarm_protocol.rows import Rows
from swarm_server.engine.compute_thread import ComputeThread
from swarm_server.engine.serving.batch_maker import BatchMaker, ReadyDecodes
from swarm_server.engine.serving.batch_runs import BatchRuns
from swarm_server.engine.serving.inputs import InputChunk
from swarm_server.engine.serving.limits import EngineCounters, EngineLimits
from swarm_server.engine.serving.requests import SessionRequest, StepListener, StepResult
from swarm_server.engine.serving.running_batch import Outputs, PagedSpan, RunningBatch
from swarm_server.engine.serving.session import EngineSession
from swarm_server.engine.serving.telling import Telling
from swarm_server.engine.serving.work import MAX_DECODE_TOKENS, Work
from swarm_server.errors import BatchFailedError, NotFiniteError
from swarm_server.kv import KVMemory
from swarm_server.kv.session_pages import SessionPages
from swarm_server.scheduler import Gathering, Scheduler

log = get_logger(__name__)
_standard_log = logging.getLogger(__name__)
"""What `log` writes to, which tells at no cost that nobody wants a line."""

_RETRY_S: Final = 0.05
"""How often steps that wait for pages are looked at, beside whenever a batch ends."""

_IDLE_CHECK_S: Final = 1.0

_MIN_WAIT_S: Final = 0.0005
"""A timer for less is not worth its while."""


class Engine:
    """Runs the sessions of a server. All calls are for its event loop."""

    def __init__(
        self,
        span: PagedSpan,
        memory: KVMemory,
        compute: ComputeThread,
        limits: EngineLimits,
        *,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """Begin without sessions.

        Args:
            span: computes batches, on the compute thread.
            memory: its pages.
            compute: the thread.
            limits: see there.
            clock: in seconds.
        """
        self.counters = EngineCounters()
        self.batch_failed = asyncio.Event()  # to be cleared by whoever looks into it
        self._span = span
        self._memory = memory
        self._clock = clock
        self._runs = BatchRuns(span, compute, clock, self._end)
        self._scheduler = Scheduler(limits.batch)
        self._batches = BatchMaker(self._scheduler, memory, limits, self.counters, clock)
        self._gathering = Gathering()
        self._telling = Telling()
        self._session_ids = count()
        self._ticket_ids = count()
        self._timer: asyncio.TimerHandle | None = None
        self._is_woken = False
        self._untidy: dict[int, EngineSession] = {}  # by id, whose turn comes first

    @property
    def num_free_tokens(self) -> int:
        """Tokens of one sequence for which there are pages."""
        return self._memory.num_tokens_available

    @property
    def num_slots_touched(self) -> int:
        """Places of a token in one block whose memory was ever written."""
        return self._memory.num_slots_touched

    def open(self, request: SessionRequest) -> EngineSession:
        """Return a new session at position 0, without pages yet. It must be closed."""
        session_id, pages = next(self._session_ids), SessionPages(self._memory, request.num_rows)
        session = EngineSession(self, session_id, request, pages, self._span.hidden_size)
        session.stepped_at = self._clock()
        self._batches.sessions[session.session_id] = session
        return session

    def enqueue(
        self,
        session: EngineSession,
        chunk: InputChunk,
        on_done: StepListener,
        *,
        only_last: bool,
    ) -> None:
        """Let a session compute a chunk that it has checked; for `EngineSession`."""
        now = session.stepped_at = self._clock()
        if chunk.end == chunk.position:
            rows = Rows.of(chunk.inputs.hidden.to("cpu", self._span.dtype))
            nothing = StepResult(rows, 0.0, 0.0, 0)
            asyncio.get_running_loop().call_soon(on_done, nothing)
            return
        pages, request = session.pages, session.request
        num_left = chunk.end - pages.length
        session.work = work = Work(
            next(self._ticket_ids),
            session.session_id,
            request.tenant,
            request.blocks,
            pages.num_rows,
            num_left,
            num_left > MAX_DECODE_TOKENS,
            chunk,
            on_done,
            now,
            only_last,
        )
        self._scheduler.add(work)
        self._gathering.came(session.session_id, now)
        self._wake()

    def call_afterwards(self, callback: Callable[[], None]) -> None:
        """Call back once all who are being told of outputs have heard; see `Telling`."""
        self._telling.call_afterwards(callback)

    def leave(self, session: EngineSession) -> None:
        """Forget a session; for `EngineSession`."""
        self._scheduler.cancel(session.session_id)
        self._gathering.left(session.session_id)
        if not session.is_in_batch:
            self._free(session)

    def tidy_soon(self, session: EngineSession) -> None:
        """Let a session tidy once outputs are on their way; for `EngineSession`."""
        if not self._untidy:
            asyncio.get_running_loop().call_soon(self._tidy)
        self._untidy[session.session_id] = session

    def check_integrity(self) -> None:
        """Assert that no page is lost and no step forgotten; between batches."""
        assert self._runs.is_idle
        self._batches.check_integrity()

    def close(self) -> None:
        """Stop looking after sessions; a batch that runs ends by itself."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        """Make a batch once all that is ready on the loop has come in."""
        if not self._is_woken and self._runs.has_room:
            self._is_woken = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._is_woken = False
        if not self._runs.has_room:
            return
        batch, now = None, self._clock()
        if self._runs.is_idle and not self._gathering.expects_more(now):
            batch = self._batches.lone_decode()
        if batch is None and (waiting := self._scheduler.waiting()):
            ready = self._batches.ready_decodes(waiting)
            if self._waits_for_more(ready, now):
                return
            max_rows = None
            if ready is not None and self._runs.is_idle:
                max_rows = self._gathering.rows_to_take(ready.num_rows, now)
            batch = self._batches.next_batch(max_rows)
        if batch is not None:
            self._runs.add(batch)
        elif self._runs.is_idle:
            self._set_timer()

    def _waits_for_more(self, ready: ReadyDecodes | None, now: float) -> bool:
        """Tell whether it pays to begin a little later; then somebody will wake us."""
        if not self._runs.is_idle:  # a batch made ahead misses what comes before it starts
            return ready is None or self._gathering.expects_more(now)
        if ready is None:
            return False
        wait_s = self._gathering.begin_at(ready.num_rows, ready.since, now) - now
        if wait_s < _MIN_WAIT_S:
            return False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake)
        return True

    def _set_timer(self) -> None:
        """Look again later: for pages if a step lacks them, else whether all is well."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        if self._scheduler.has_work:
            self._timer = loop.call_later(_RETRY_S, self._wake)
        else:
            self._timer = loop.call_later(_IDLE_CHECK_S, self._check_idle)

    def _check_idle(self) -> None:
        if self._runs.is_idle and not self._scheduler.has_work:
            self.check_integrity()

    def _end(self, batch: RunningBatch, outcome: Callable[[], Outputs], took_s: float) -> None:
        """Take what a batch has given, and begin the next before anybody hears of it."""
        finished_at, finished = self._clock(), list[Work]()
        try:
            all_outputs = outcome()
        except Exception as error:
            self._fail(batch, error)
        else:
            finished = self._take(batch, all_outputs, finished_at, took_s)
        self._gathering.batch_finished(took_s)
        if has_work := self._runs.is_idle and self._scheduler.has_work:
            self._begin()
        self._telling.tell(finished, finished_at, batch.num_rows)
        self._count(batch, took_s)
        if not self._runs.is_idle:  # what waits may be made ready meanwhile
            self._wake()
        elif not has_work:
            self._set_timer()

    def _take(
        self, batch: RunningBatch, all_outputs: Outputs, finished_at: float, took_s: float
    ) -> list[Work]:
        """Note what a batch has given; return what is done with it."""
        finished, scheduler = list[Work](), self._scheduler
        for session, outputs in zip(batch.sessions, all_outputs, strict=True):
            work, session.is_in_batch = session.work, False
            assert work is not None
            if session.is_closed:
                self._free(session)
            elif outputs is None:
                scheduler.cancel(session.session_id)
                session.fail(NotFiniteError())
            else:
                if session.take(outputs, took_s):
                    session.stepped_at = finished_at
                    finished.append(work)
                scheduler.finished(work)
        self._gathering.went({work.session_id: work.num_rows for work in finished}, finished_at)
        return finished

    def _fail(self, batch: RunningBatch, cause: Exception) -> None:
        """End every step of a batch; their sessions are as before."""
        self.counters.num_failed_batches += 1
        self.batch_failed.set()
        log.error("batch_failed", num_rows=batch.num_rows, exc_info=cause)
        for session in batch.sessions:
            work, session.is_in_batch = session.work, False
            assert work is not None
            if session.is_closed:
                self._free(session)
                continue
            self._scheduler.cancel(session.session_id)
            session.pages.truncate(work.start)
            error = BatchFailedError()
            error.__cause__ = cause
            session.fail(error)

    def _tidy(self) -> None:
        """Let one session tidy each time the loop turns, so that steps are not held up."""
        session = self._untidy.pop(next(iter(self._untidy)))
        if self._untidy:
            asyncio.get_running_loop().call_soon(self._tidy)
        if not session.is_closed:
            session.tidy()

    def _free(self, session: EngineSession) -> None:
        session.pages.release()
        del self._batches.sessions[session.session_id]
        session.on_freed()

    def _count(self, batch: RunningBatch, took_s: float) -> None:
        self.counters.add_batch(batch.num_rows, batch.num_tokens, batch.num_prefill_tokens)
        if _standard_log.isEnabledFor(logging.DEBUG):
            log.debug(
                "batch_computed",
                num_rows=batch.num_rows,
                num_tokens=batch.num_tokens,
                num_prefill_tokens=batch.num_prefill_tokens,
                pages_available=self._memory.num_available,
                took_ms=round(1e3 * took_s, 2),
            )
