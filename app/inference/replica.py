"""A thread that turns hidden states into tokens, and tokens into embeddings.

It takes everything that waits at that moment: the rows of all generations share one head product,
and each comes back with the embedding of its token, so a token costs one trip to the thread.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from traceback import format_exception
from typing import Any, Final, TypeAlias

import structlog
import torch
from torch import Tensor

from app.inference.errors import EngineStoppedError, HeadFailedError
from app.inference.head_batch import Choice, HeadRow, choose_tokens
from swarm_client.generation.logprobs import TokenLogprob
from swarm_client.models import LocalParts

log = structlog.get_logger(__name__)

_MAX_ROWS: Final = 64  # bounds the logits of one batch: 64 rows of 128k tokens are 32 MiB
_JOIN_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The next token, its embedding `[1, 1, hidden_size]`, and where its time went.

    `logprob` is there if the row wants it.
    """

    token_id: int
    embedding: Tensor
    logprob: TokenLogprob | None
    queue_ms: float
    head_ms: float


@dataclass(frozen=True, slots=True, eq=False)
class HeadJob:
    """A row that waits for its token; `queued_at` is a reading of `perf_counter`."""

    row: HeadRow
    queued_at: float
    result: asyncio.Future[SampledToken]


@dataclass(frozen=True, slots=True, eq=False)
class EmbedJob:
    """Tokens that wait for their embeddings, `[1, num_tokens, hidden_size]`."""

    token_ids: Sequence[int]
    result: asyncio.Future[Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class SumJob:
    """Outputs of the last block, `[num_tokens, hidden_size]`, that are to be normed and summed.

    The result is float32 `[hidden_size]`, on the CPU.
    """

    hidden: Tensor
    result: asyncio.Future[Tensor]


Job: TypeAlias = HeadJob | EmbedJob | SumJob
_Outcome: TypeAlias = SampledToken | Tensor | Exception


class Replica:
    """The thread and its queue. All methods belong to the event loop it was made in.

    Args:
        parts: may be shared with other replicas; it is only read.
        num_threads: torch's threads inside one product; None leaves torch's default.
    """

    def __init__(self, parts: LocalParts, *, name: str, num_threads: int | None) -> None:
        self._parts = parts
        self._num_threads = num_threads
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._is_closed = False
        self.num_waiting = 0  # jobs without an outcome whose callers are still there
        self.num_head_calls = 0  # written by the thread
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; its `result` gets a value or an error.

        Raises:
            EngineStoppedError: the replica was closed.
        """
        if self._is_closed:
            raise EngineStoppedError
        self.num_waiting += 1
        job.result.add_done_callback(self._count_done)
        self._jobs.put(job)

    async def close(self) -> None:
        """Finish what waits, then end the thread. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, _JOIN_TIMEOUT_S)

    def _run(self) -> None:
        if self._num_threads is not None:
            torch.set_num_threads(self._num_threads)
        with torch.inference_mode():
            while jobs := self._take():
                self._serve(jobs)

    def _take(self) -> list[Job]:
        """Wait for a job and return all that are there, at most `_MAX_ROWS`; none at the end."""
        jobs: list[Job] = []
        while len(jobs) < _MAX_ROWS and (not jobs or not self._jobs.empty()):
            job = self._jobs.get()
            if job is None:
                self._jobs.put(None)  # for the next call: nothing is submitted behind it
                break
            jobs.append(job)
        return jobs

    def _serve(self, jobs: list[Job]) -> None:
        """Rows first: their generations are under way, while a prompt has just begun to wait."""
        wanted = [job for job in jobs if not job.result.done()]  # the others' callers have left
        rows = [job for job in wanted if isinstance(job, HeadJob)]
        if rows:
            self._deliver(rows, self._choose(rows))
        for job in wanted:
            if not isinstance(job, HeadJob):
                self._deliver([job], [self._transform(job)])

    def _choose(self, jobs: list[HeadJob]) -> list[_Outcome]:
        started_at = perf_counter()
        self.num_head_calls += 1
        choices = choose_tokens(self._parts, [job.row for job in jobs])
        head_ms = (perf_counter() - started_at) * 1000
        return [
            SampledToken(
                choice.token_id,
                choice.embedding,
                choice.logprob,
                queue_ms=(started_at - job.queued_at) * 1000,
                head_ms=head_ms,
            )
            if isinstance(choice, Choice)
            else choice
            for job, choice in zip(jobs, choices, strict=True)
        ]

    def _transform(self, job: EmbedJob | SumJob) -> _Outcome:
        try:
            device = next(self._parts.parameters()).device
            if isinstance(job, EmbedJob):
                return self._parts.embed(torch.tensor([job.token_ids], device=device)).cpu()
            normed: Tensor = self._parts.ln_f(job.hidden.to(device, self._parts.dtype))
            return normed.float().sum(dim=0).cpu()
        except Exception as error:  # the edge of the thread; an id over the vocabulary lands here
            log.error("embedding_failed", traceback="".join(format_exception(error)))
            return HeadFailedError()

    def _deliver(self, jobs: Sequence[Job], outcomes: Sequence[_Outcome]) -> None:
        """Wake the event loop once for all."""
        self._loop.call_soon_threadsafe(_set_results, jobs, outcomes)

    def _count_done(self, _result: asyncio.Future[Any]) -> None:
        self.num_waiting -= 1


def _set_results(jobs: Sequence[Job], outcomes: Sequence[_Outcome]) -> None:
    for job, outcome in zip(jobs, outcomes, strict=True):
        result: asyncio.Future[Any] = job.result
        if result.done():  # cancelled meanwhile
            continue
        if isinstance(outcome, Exception):
            result.set_exception(outcome)
        else:
            result.set_result(outcome)
