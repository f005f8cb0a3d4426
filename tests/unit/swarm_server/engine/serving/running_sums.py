"""A span that adds up: a small stand-in for attention over pages, and an engine on it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any  # of fields that a test sets

import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine import ComputeThread
from swarm_server.engine.batch import Begun, RaggedBatch
from swarm_server.engine.serving import (
    Engine,
    EngineLimits,
    EngineSession,
    PagedSpan,
    SessionRequest,
)
from swarm_server.engine.serving.requests import Step
from swarm_server.kv import KVLayout, KVMemory, PageCopy
from swarm_server.scheduler import BatchLimits

BLOCKS = BlockRange(0, 1)
PAGE_SIZE = 4
HIDDEN_SIZE = 2
LIMITS = EngineLimits(BatchLimits(max_batch_tokens=64, chunk_tokens=16, max_rows=8))
REQUEST = SessionRequest(BLOCKS, num_rows=1, max_length=100, tenant="one")


class RunningSums:
    """Each token becomes the sum of itself and what its sequence has in its pages before it.

    Adapters add their length; prompts are added first. It tells when it runs, waits to be let
    through, and can be made to fail once.
    """

    def __init__(self, num_pages: int, device: ThreadPoolExecutor | None = None) -> None:
        self._device = device
        self.slots = torch.full((num_pages, PAGE_SIZE, HIDDEN_SIZE), torch.nan)
        self.batches: list[RaggedBatch] = []
        self.num_prepared = 0
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.leaves_out = False  # outputs that are not wanted
        self.failure: Exception | None = None
        self.launch_failure: Exception | None = None

    def copy_pages(self, copies: Sequence[PageCopy]) -> None:
        for copy in copies:
            self.slots[copy.target] = self.slots[copy.source]

    def prepare(self, blocks: BlockRange, batch: RaggedBatch) -> Callable[[], Begun[Tensor]]:
        self.num_prepared += 1
        return partial(self._begin, blocks, batch)

    def _begin(self, blocks: BlockRange, batch: RaggedBatch) -> Begun[Tensor]:
        if self.launch_failure is not None:
            raise self.launch_failure
        if self._device is None:
            return Begun(partial(self.run, blocks, batch))
        working = self._device.submit(self.run, blocks, batch)
        return Begun(working.result, working.done)

    def run(self, blocks: BlockRange, batch: RaggedBatch) -> Tensor:
        self.batches.append(batch)
        self.started.set()
        self.go_on.wait()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        hidden = inputs_of(batch)
        outputs = torch.empty_like(hidden)
        for segment in batch.segments:
            (pages,) = segment.tables
            for token in range(segment.start, segment.end):
                position = segment.position + token - segment.start
                self.slots[pages[position // PAGE_SIZE], position % PAGE_SIZE] = hidden[token]
                seen = self.slots[list(pages)].flatten(0, 1)[: position + 1]
                outputs[token] = seen.sum(0)
        if self.leaves_out and batch.wanted is not None:
            return outputs[batch.wanted]
        return outputs


def inputs_of(batch: RaggedBatch) -> Tensor:
    """Return what a batch brings, with its prompts, and with each adapter's length of its name."""
    hidden = batch.hidden.clone()
    for prompted in batch.prompts:
        start = batch.segments[prompted.segment_index].start
        hidden[start : start + prompted.prompts.shape[1]] += prompted.prompts[0]
    for adapter in batch.adapters:
        hidden[adapter.start : adapter.end] += len(adapter.name or "")
    return hidden


@dataclass
class Clock:
    """Time that stands still; in seconds."""

    now: float = 0.0


@dataclass
class Bench:
    """An engine on a pool of pages."""

    engine: Engine
    memory: KVMemory
    span: RunningSums
    clock: Clock
    sessions: list[EngineSession] = field(default_factory=list)

    def open(self, **changes: Any) -> EngineSession:
        """Open a session of one row, or with other fields of a request."""
        session = self.engine.open(replace(REQUEST, **changes))
        self.sessions.append(session)
        return session

    async def wait_started(self) -> None:
        """Wait until a batch runs."""
        await asyncio.to_thread(self.span.started.wait)
        self.span.started.clear()

    async def settle(self) -> None:
        """Let everything that is ready run."""
        for _ in range(10):
            await asyncio.sleep(0)

    def assert_all_is_free(self) -> None:
        """Close every session; no page is left."""
        for session in self.sessions:
            session.close()
        self.engine.check_integrity()
        assert self.memory.num_available == self.memory.num_pages


@asynccontextmanager
async def running_engine(
    num_pages: int = 32, limits: EngineLimits = LIMITS, device: ThreadPoolExecutor | None = None
) -> AsyncIterator[Bench]:
    """Yield an engine on its own compute thread, or with a device that works by itself."""
    compute, span = ComputeThread(1), RunningSums(num_pages, device)
    memory = KVMemory(num_pages, KVLayout([None], PAGE_SIZE))
    paged = PagedSpan(span, span, HIDDEN_SIZE, torch.float32)
    clock = Clock()
    engine = Engine(paged, memory, compute, limits, clock=lambda: clock.now)
    try:
        yield Bench(engine, memory, span, clock)
    finally:
        span.go_on.set()
        engine.close()
        await compute.close()


def tokens(*values: float, num_rows: int = 1) -> Tensor:
    """Return hidden states [num_rows, len(values), 2]; rows differ by 100."""
    rows = torch.arange(num_rows).view(-1, 1) * 100.0 + torch.tensor(values)
    return rows.unsqueeze(-1).expand(-1, -1, HIDDEN_SIZE).contiguous()


async def run_step(
    session: EngineSession, step: Step | Tensor, position: int | None = None
) -> list[float]:
    """Make a step at the session's end; return the first number of each token of row 0."""
    step = step if isinstance(step, Step) else Step(step)
    at = session.position if position is None else position
    result = await session.submit(step, position=at)
    numbers: list[float] = result.hidden[0, :, 0].tolist()
    return numbers
