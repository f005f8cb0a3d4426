"""One session of the engine: its pages, its kept inputs, and the step that it makes."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Protocol

from swarm_protocol.rows import Rows
from swarm_server.engine.serving.assembly import Piece
from swarm_server.engine.serving.inputs import InputChunk, KeptInputs, cut_chunks
from swarm_server.engine.serving.requests import (
    SessionRequest,
    StepListener,
    StepResult,
    StepTensors,
)
from swarm_server.engine.serving.step_rules import StepRules
from swarm_server.engine.serving.work import Work
from swarm_server.errors import InvalidPositionError, StepUnfinishedError
from swarm_server.kv.session_pages import SessionPages


class _Queue(Protocol):
    """The engine, as its sessions see it."""

    def enqueue(
        self,
        session: "EngineSession",
        chunk: InputChunk,
        on_done: StepListener,
        *,
        only_last: bool,
    ) -> None:
        """Let a session compute a chunk of inputs."""

    def leave(self, session: "EngineSession") -> None:
        """Forget a session; free its pages when no batch uses them."""

    def tidy_soon(self, session: "EngineSession") -> None:
        """Let a session `tidy` when nobody waits for it."""


def _do_nothing() -> None:
    pass


def _settle(future: asyncio.Future[StepResult], outcome: StepResult | BaseException) -> None:
    if future.done():  # whoever waited has left
        return
    if isinstance(outcome, StepResult):
        future.set_result(outcome)
    elif isinstance(outcome, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(outcome)


class EngineSession:
    """A session in the engine; made by `Engine.open`. For the event loop only.

    `position` counts tokens as callers see them; pages may hold fewer for a while, after a
    preemption, and what they lack is computed again from the kept inputs.
    """

    def __init__(
        self,
        queue: _Queue,
        session_id: int,
        request: SessionRequest,
        pages: SessionPages,
        hidden_size: int,
    ) -> None:
        self.session_id = session_id
        self.request = request
        self.position = 0
        self.pages = pages
        self.work: Work | None = None
        self.is_in_batch = False
        self.is_closed = False
        self.stepped_at = 0.0
        self.on_freed: Callable[[], None] = _do_nothing
        self._queue = queue
        self._rules = StepRules(request, hidden_size)
        self._inputs = KeptInputs()

    def submit(self, step: StepTensors, *, position: int) -> asyncio.Future[StepResult]:
        """Make a step as `begin_step` does; return a future of its result."""
        future: asyncio.Future[StepResult] = asyncio.get_running_loop().create_future()
        self.begin_step(step, position=position, on_done=partial(_settle, future))
        return future

    def begin_step(self, step: StepTensors, *, position: int, on_done: StepListener) -> None:
        """Make a step from `position` on; what the session had beyond it is forgotten.

        Its rows are the session's; with `hypo_ids` their number may change. A step without
        tokens is done at once. Its tensors must not change: they are kept to compute it anew.

        Args:
            step: see there.
            position: of its first token.
            on_done: called later with the result, NotFiniteError (nothing of the step is kept),
                KVMemoryError (no pages in time) or BatchFailedError (the device has failed); or
                by `close`. It may make the next step.

        Raises:
            StepUnfinishedError: the one before is not done.
            InvalidPositionError, MaxLengthExceededError, InvalidStepError: nothing has changed.
        """
        assert not self.is_closed
        if self.work is not None:
            raise StepUnfinishedError
        if not 0 <= position <= self.position:
            raise InvalidPositionError(position, self.position)
        rows = step.rows
        self._rules.check(step, rows, position=position, num_rows=self.pages.num_rows)
        if position < self.position:
            self._roll_back(position)
        if step.hypo_ids is not None:
            self._reorder(step.hypo_ids.tolist())
        if step.prompts is not None:
            self.pages.forget_prefix()
        chunk = InputChunk(position, rows, step.prompts)
        self._queue.enqueue(self, chunk, on_done, only_last=step.only_last)

    def match_prefix(self, hashes: Sequence[bytes]) -> int:
        """Begin with tokens that the prefix cache has; return their number, the new position.

        Only for a session that has made no step; one of several rows gets nothing, and none gets
        more than it has asked for. Pages that are computed for hashes not known yet are kept for
        others.

        Args:
            hashes: 16 bytes for each whole page of the prompt, chained; equal hashes mean equal
                inputs of whoever may share them. Blocks and adapter are added here.
        """
        assert self.position == 0
        assert self.work is None
        most = self.request.max_length // self.pages.page_size
        self.position = self.pages.match_prefix([self._own_hash(each) for each in hashes[:most]])
        self._inputs.begin_at(self.position)
        return self.position

    def close(self, on_freed: Callable[[], None] = _do_nothing) -> None:
        """End the session at once. Idempotent.

        A step that waits is cancelled. One that is being computed goes on to the end of its batch;
        then the pages are free, and `on_freed` is called.
        """
        if self.is_closed:
            return
        self.is_closed = True
        self.on_freed = on_freed
        work = self.work
        self._queue.leave(self)
        if work is not None:
            work.on_done(asyncio.CancelledError())

    def piece(self) -> Piece:
        """Return what computes the tokens that a batch takes; `pages` have room for them."""
        work = self.work
        assert work is not None
        chunk = work.chunk
        chunks: Sequence[InputChunk] = (chunk,)
        if not work.is_taken_whole:
            start = work.start
            chunks = tuple(cut_chunks((*self._inputs.chunks, chunk), start, start + work.num_taken))
        return Piece(chunks, self.pages.tables, self.request.adapter, work.only_last)

    def take(self, outputs: Rows, took_s: float) -> bool:
        """Take outputs of what a batch has taken; tell whether the step is done with it."""
        work = self.work
        assert work is not None
        self.pages.settle()
        work.add_outputs(outputs, took_s)
        if work.num_taken < work.num_left:
            return False
        if self._inputs.append(work.chunk):
            self._queue.tidy_soon(self)
        self.position = work.chunk.end
        self.work = None
        return True

    def tidy(self) -> None:
        """Let go of memory that inputs keep for no reason."""
        self._inputs.join_small()

    def fail(self, error: Exception) -> None:
        """Give the step up; the session is as if it had not been made.

        Whoever made it hears of it when the engine's work of this moment is done.
        """
        assert self.work is not None
        self.pages.truncate(min(self.pages.length, self.position))
        asyncio.get_running_loop().call_soon(self.work.on_done, error)
        self.work = None

    def _roll_back(self, position: int) -> None:
        self.pages.truncate(position)
        self._inputs.truncate(position)
        self.position = position

    def _reorder(self, rows: list[int]) -> None:
        if rows != list(range(self.pages.num_rows)):
            self.pages.reorder(rows)
            self._inputs.reorder(rows)

    def _own_hash(self, prefix_hash: bytes) -> bytes:
        request = self.request
        salt = f"{request.blocks} {request.adapter or ''}".encode()
        return blake2b(salt + prefix_hash, digest_size=16).digest()
