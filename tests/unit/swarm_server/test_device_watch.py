"""A server whose batches fail: when it is the device's fault."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from swarm_server.device_watch import wait_broken
from swarm_server.engine import ComputeThread
from swarm_server.errors import BatchFailedError, DeviceBrokenError
from tests.unit.swarm_server.engine.serving.running_sums import (
    Bench,
    run_step,
    running_engine,
    tokens,
)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running_engine() as bench:
        yield bench


@pytest.fixture
async def compute() -> AsyncIterator[ComputeThread]:
    compute = ComputeThread(1)
    yield compute
    await compute.close()


async def fail_a_batch(bench: Bench) -> None:
    """Let a step fail."""
    bench.span.failure = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(BatchFailedError):
        await run_step(bench.open(), tokens(1.0))


async def test_a_device_that_does_not_compute_ends_the_wait(
    bench: Bench, compute: ComputeThread
) -> None:
    """Here torch's meta device, which has no numbers; it is asked when a batch has failed."""
    watch = asyncio.create_task(wait_broken("meta", bench.engine.batch_failed, compute))
    await run_step(bench.open(), tokens(1.0))
    assert not watch.done()

    await fail_a_batch(bench)

    with pytest.raises(DeviceBrokenError, match="'meta' computes nothing"):
        await watch


async def test_failed_batches_of_a_sound_device_are_borne(
    bench: Bench, compute: ComputeThread
) -> None:
    """Peers can send what makes a batch fail, as often as they like."""
    watch = asyncio.create_task(wait_broken("cpu", bench.engine.batch_failed, compute))

    for _ in range(20):
        await fail_a_batch(bench)
    await compute.run(lambda: None)
    await bench.settle()

    assert not watch.done()
    assert not bench.engine.batch_failed.is_set()
    assert await run_step(bench.open(), tokens(1.0)) == [1]
    watch.cancel()
    await asyncio.wait([watch])
