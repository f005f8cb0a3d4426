"""Sessions of an engine with too few pages, a device that fails, and callers who leave: right sums.

The random numbers of a test follow from its seed, which is in its name; the order in which threads
take turns does not.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

import pytest
import torch
from torch import Tensor

from swarm_protocol.dialect import hash_prefixes
from swarm_protocol.errors import SwarmError
from swarm_protocol.identifiers import BlockRange
from swarm_server.engine import ComputeThread
from swarm_server.engine.batch import RaggedBatch
from swarm_server.engine.serving import Engine, EngineLimits, EngineSession, PagedSpan
from swarm_server.engine.serving.requests import Step, StepResult
from swarm_server.errors import BatchFailedError, KVMemoryError
from swarm_server.kv import KVLayout, KVMemory
from swarm_server.scheduler import BatchLimits
from tests.unit.swarm_client.scripted_swarm import eventually
from tests.unit.swarm_server.engine.serving.running_sums import (
    HIDDEN_SIZE,
    PAGE_SIZE,
    REQUEST,
    RunningSums,
    inputs_of,
    tokens,
)

_WINDOW: Final = 6
_WINDOW_WEIGHT: Final = 1000  # so that the two sums of an output do not mix
_MAX_LENGTH: Final = 60
_NUM_CALLERS: Final = 5
_SESSIONS_EACH: Final = 8
_LIMITS: Final = EngineLimits(
    BatchLimits(max_batch_tokens=24, chunk_tokens=8, max_rows=6), page_wait_s=0.05, rest_s=0.01
)


class WindowedSums(RunningSums):
    """Two blocks' worth of pages: a token becomes the sum of all before and of those in a window.

    Some batches fail, after no or some work.
    """

    def __init__(
        self, num_pages: int, device: ThreadPoolExecutor | None, failing: Random, failed: float
    ) -> None:
        super().__init__(num_pages, device)
        self._failing = failing
        self._failed = failed

    def run(self, blocks: BlockRange, batch: RaggedBatch) -> Tensor:
        if self._failing.random() < self._failed:
            raise RuntimeError("the device failed")
        hidden = inputs_of(batch)
        outputs = torch.empty_like(hidden)
        for segment in batch.segments:
            whole, window = segment.tables
            for token in range(segment.start, segment.end):
                position = segment.position + token - segment.start
                for pages in (whole, window):
                    self.slots[pages[position // PAGE_SIZE], position % PAGE_SIZE] = hidden[token]
                first = max(0, position + 1 - _WINDOW)
                in_window = self._sum(window, first, position + 1)
                outputs[token] = self._sum(whole, 0, position + 1) + _WINDOW_WEIGHT * in_window
        return outputs

    def _sum(self, pages: Sequence[int], start: int, end: int) -> Tensor:
        places = range(start, end)
        assert all(pages[place // PAGE_SIZE] >= 0 for place in places), "a page in use was freed"
        slots = [self.slots[pages[place // PAGE_SIZE], place % PAGE_SIZE] for place in places]
        return torch.stack(slots).sum(0)


def _expected(row: Sequence[float], start: int) -> list[float]:
    """Return the outputs of a row from a position on."""
    return [
        sum(row[:end]) + _WINDOW_WEIGHT * sum(row[max(0, end - _WINDOW) : end])
        for end in range(start + 1, len(row) + 1)
    ]


@dataclass
class Caller:
    """Opens sessions, steps, goes back, reorders rows and leaves; knows what it must get."""

    engine: Engine
    random: Random
    rows: list[list[float]] = field(default_factory=list)
    num_steps: int = 0

    async def run(self) -> None:
        """Use some sessions, one after the other."""
        for _ in range(_SESSIONS_EACH):
            session = self.engine.open(
                replace(
                    REQUEST,
                    num_rows=self.random.choice((1, 1, 1, 2, 3)),
                    max_length=_MAX_LENGTH,
                    adapter=self.random.choice((None, None, "ab", "c")),
                    tenant=self.random.choice("xy"),
                )
            )
            try:
                await self._use(session)
            except KVMemoryError:
                pass  # its pages did not come in time
            finally:
                session.close()

    async def _use(self, session: EngineSession) -> None:
        prompt = [float(index % 3) for index in range(self.random.randint(1, 25))]
        values = self._begin(session, prompt)
        await self._step(session, values, len(self.rows[0]))
        for _ in range(self.random.randint(0, 12)):
            num_tokens = self.random.choice((1, 1, 1, 2, 10))
            values = [float(self.random.randint(0, 5)) for _ in range(num_tokens)]
            position = self._choose_position()
            if position + num_tokens > _MAX_LENGTH or session.is_closed:
                return
            await self._step(session, values, position, self._choose_order(session))

    def _begin(self, session: EngineSession, prompt: list[float]) -> list[float]:
        """Start with what is cached of a prompt, sometimes; return the rest of it."""
        cached, request = 0, session.request
        if self.random.random() < 0.6:
            hashes = hash_prefixes([int(value) for value in prompt], PAGE_SIZE, b"")
            cached = min(session.match_prefix(hashes), len(prompt) - 1)
        plus = len(request.adapter or "")
        self.rows = [[value + plus for value in prompt[:cached]] for _ in range(request.num_rows)]
        return prompt[cached:]

    async def _step(
        self,
        session: EngineSession,
        values: list[float],
        position: int,
        order: list[int] | None = None,
    ) -> None:
        kept = self.rows if order is None else [self.rows[index] for index in order]
        kept = [row[:position] for row in kept]
        hidden = tokens(*values, num_rows=len(kept))
        prompts = None
        if self.random.random() < 0.1:
            prompts = torch.full((1, 1, 1, HIDDEN_SIZE), 7.0)
        step = Step(hidden, prompts, None if order is None else torch.tensor(order))
        computing = asyncio.ensure_future(session.submit(step, position=position))
        if self.random.random() < 0.03:
            await self._leave(session, computing)
            return
        try:
            result = await computing
        except BatchFailedError:
            assert session.position == position
            self.rows = kept
            return
        plus = len(session.request.adapter or "")
        new = (hidden[:, :, 0] + plus).tolist()
        for row in new:
            row[0] += 0.0 if prompts is None else 7.0
        self.rows = [row + added for row, added in zip(kept, new, strict=True)]
        outputs = result.hidden[:, :, 0].tolist()
        assert outputs == [_expected(row, position) for row in self.rows]
        self.num_steps += 1
        if self.random.random() < 0.1:
            await asyncio.sleep(_LIMITS.rest_s)  # long enough to lose its pages to others

    async def _leave(self, session: EngineSession, computing: asyncio.Future[StepResult]) -> None:
        await asyncio.sleep(self.random.random() * 0.002)
        session.close()
        await asyncio.wait([computing])
        if not computing.cancelled():
            assert isinstance(computing.exception(), SwarmError | None)

    def _choose_position(self) -> int:
        """Return the end, or some place before, seldom far before."""
        end = len(self.rows[0])
        if self.random.random() > 0.2:
            return end
        return self.random.randint(0 if self.random.random() < 0.1 else max(0, end - 8), end)

    def _choose_order(self, session: EngineSession) -> list[int] | None:
        """Return which rows go on, perhaps fewer or more than before."""
        if self.random.random() > 0.2:
            return None
        num_rows = self.random.randint(1, session.request.num_rows)
        return [self.random.randrange(len(self.rows)) for _ in range(num_rows)]


@asynccontextmanager
async def troubled_engine(
    random: Random, num_pages: int, *, failed: float, is_device: bool
) -> AsyncIterator[Engine]:
    """Yield an engine; at its end all pages come back, if need be when a last batch has ended."""
    compute, device = ComputeThread(1), ThreadPoolExecutor(1) if is_device else None
    span = WindowedSums(num_pages, device, random, failed)
    memory = KVMemory(num_pages, KVLayout([None, _WINDOW], PAGE_SIZE))
    engine = Engine(PagedSpan(span, span, HIDDEN_SIZE, torch.float32), memory, compute, _LIMITS)
    try:
        yield engine
        await eventually(lambda: memory.num_available == num_pages)
        engine.check_integrity()
    finally:
        engine.close()
        await compute.close()
        if device is not None:
            device.shutdown()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("is_device", [False, True], ids=["thread", "device"])
@pytest.mark.parametrize("failed", [0.0, 0.05])
@pytest.mark.parametrize("num_pages", [24, 200])
@pytest.mark.parametrize("seed", range(2))
async def test_sums_are_right_and_all_pages_come_back(
    seed: int, num_pages: int, failed: float, is_device: bool
) -> None:
    """With prefixes shared, sessions preempted, batches failed and steps given up."""
    random = Random(seed)
    async with troubled_engine(random, num_pages, failed=failed, is_device=is_device) as engine:
        callers = [Caller(engine, Random(f"{seed} {index}")) for index in range(_NUM_CALLERS)]

        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            for caller in callers:
                tasks.create_task(caller.run())

        assert sum(caller.num_steps for caller in callers) > _NUM_CALLERS
        assert (engine.counters.num_preemptions > 0) == (num_pages < 100)
