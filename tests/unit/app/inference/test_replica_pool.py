import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from threading import Event, Semaphore

import pytest
import torch
from torch import Tensor

from app.inference.errors import (
    BadHiddenStatesError,
    EngineStoppedError,
    HeadFailedError,
    OverloadedError,
)
from app.inference.replica import SampledToken
from app.inference.replica_pool import ReplicaPool
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.generation.sampler_row import SamplerRow
from swarm_client.models import LocalParts


class Gate:
    """Holds every head product up until it is opened."""

    def __init__(self, parts: LocalParts, monkeypatch: pytest.MonkeyPatch) -> None:
        self._logits = parts.logits
        self._is_open = Event()
        self._reached = Semaphore(0)
        self.num_rows: list[int] = []
        monkeypatch.setattr(parts, "logits", self._held_up)

    async def reached(self) -> None:
        """Wait until one more thread stands at the gate, or has passed it."""
        await asyncio.to_thread(self._reached.acquire)

    def open(self) -> None:
        self._is_open.set()

    def _held_up(self, hidden: Tensor) -> Tensor:
        self._reached.release()
        self._is_open.wait()
        self.num_rows.append(len(hidden))
        return self._logits(hidden)


@pytest.fixture
def gate(parts: LocalParts, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(parts, monkeypatch)


@asynccontextmanager
async def pool_of(
    parts: LocalParts, *, num_replicas: int = 1, max_waiting: int = 100
) -> AsyncIterator[ReplicaPool]:
    pool = ReplicaPool(parts, num_replicas=num_replicas, max_waiting=max_waiting)
    try:
        yield pool
    finally:
        await pool.close()


async def sample(pool: ReplicaPool, value: float = 1.0) -> SampledToken:
    row = SamplerRow(SamplingParameters(), [], Random(0))
    return await pool.sample(torch.full((64,), value), row)


async def begin(pool: ReplicaPool, count: int) -> list[asyncio.Task[SampledToken]]:
    """Start tasks that sample, and return when all of their rows wait."""
    tasks = [asyncio.create_task(sample(pool)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_prompt_is_embedded(parts: LocalParts) -> None:
    """As one row of the batch that a session takes."""
    async with pool_of(parts) as pool:
        embedded = await pool.embed([5, 6, 7])

    assert torch.equal(embedded, parts.embed(torch.tensor([[5, 6, 7]])))


async def test_a_token_comes_with_its_embedding_and_its_times(parts: LocalParts) -> None:
    """One trip to the thread yields all the next step needs."""
    async with pool_of(parts) as pool:
        token = await sample(pool)

    assert torch.equal(token.embedding, parts.embed(torch.tensor([[token.token_id]])))
    assert token.queue_ms > 0
    assert token.head_ms > 0


async def test_all_that_waits_shares_one_head_product(parts: LocalParts, gate: Gate) -> None:
    """A replica that was busy takes all rows that have come meanwhile."""
    async with pool_of(parts) as pool:
        first = await begin(pool, 1)
        await gate.reached()
        others = await begin(pool, 7)
        gate.open()
        await asyncio.gather(*first, *others)

        assert gate.num_rows == [1, 7]
        assert pool.num_head_calls == 2


async def test_the_replica_with_the_least_to_do_takes_a_row(parts: LocalParts, gate: Gate) -> None:
    """Two rows keep two replicas busy, and the third waits for either."""
    async with pool_of(parts, num_replicas=2) as pool:
        tasks = await begin(pool, 2)
        await gate.reached()
        await gate.reached()
        tasks += await begin(pool, 2)
        gate.open()
        await asyncio.gather(*tasks)

    assert gate.num_rows == [1, 1, 1, 1]


async def test_a_row_whose_caller_has_left_is_not_computed(parts: LocalParts, gate: Gate) -> None:
    """Neither does it count as waiting."""
    async with pool_of(parts) as pool:
        first = await begin(pool, 1)
        await gate.reached()
        left, stayed = await begin(pool, 2)
        left.cancel()
        await asyncio.wait([left])
        assert pool.num_waiting == 2
        gate.open()
        await asyncio.gather(*first, stayed)

    assert gate.num_rows == [1, 1]


async def test_one_row_over_the_limit_is_refused(parts: LocalParts, gate: Gate) -> None:
    """The others are served."""
    async with pool_of(parts, max_waiting=2) as pool:
        tasks = await begin(pool, 2)
        with pytest.raises(OverloadedError):
            await sample(pool)
        gate.open()

        assert len(await asyncio.gather(*tasks)) == 2
        assert pool.num_waiting == 0


async def test_a_failing_row_leaves_the_pool_working(parts: LocalParts) -> None:
    """Each failure reaches its caller, and nobody else."""
    async with pool_of(parts) as pool:
        with pytest.raises(BadHiddenStatesError):
            await sample(pool, torch.nan)
        with pytest.raises(HeadFailedError):
            await pool.embed([parts.facts.vocab_size])

        assert (await sample(pool)).token_id >= 0


async def test_closing_serves_what_waits_and_refuses_what_comes(
    parts: LocalParts, gate: Gate
) -> None:
    """Nobody is left waiting for ever."""
    pool = ReplicaPool(parts)
    tasks = await begin(pool, 3)
    gate.open()
    await pool.close()

    assert len(await asyncio.gather(*tasks)) == 3
    with pytest.raises(EngineStoppedError):
        await sample(pool)
