"""While a device works by itself, the next batch is made ready; no session notices."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from swarm_server.engine.serving.requests import Step, StepResult
from swarm_server.errors import BatchFailedError
from tests.unit.swarm_server.engine.serving.running_sums import (
    LIMITS,
    Bench,
    run_step,
    running_engine,
    tokens,
)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """An engine with a device, whose two pages hold four tokens each."""
    with ThreadPoolExecutor(1) as device:
        async with running_engine(num_pages=2, device=device) as bench:
            yield bench
            bench.span.go_on.set()
            bench.assert_all_is_free()


async def begin_batch(bench: Bench) -> "asyncio.Future[StepResult]":
    """Return the step of a new session, which the device does not finish yet."""
    bench.span.go_on.clear()
    step = bench.open().submit(Step(tokens(1)), position=0)
    await bench.wait_started()
    return step


async def test_the_next_batch_is_ready_when_one_ends(bench: Bench) -> None:
    """It is not started before: both write where the device reads its inputs."""
    first = await begin_batch(bench)

    second = bench.open().submit(Step(tokens(5)), position=0)
    await bench.settle()

    assert bench.span.num_prepared == 2
    assert len(bench.span.batches) == 1
    bench.span.go_on.set()
    results = await asyncio.gather(first, second)
    assert [result.hidden[0, 0, 0] for result in results] == [1.0, 5.0]
    assert [result.num_batch_rows for result in results] == [1, 1]


async def test_no_batch_is_made_ahead_while_a_session_is_due(bench: Bench) -> None:
    """It would miss it, and sessions that decode together would come apart."""
    one, other = bench.open(), bench.open()
    await asyncio.gather(run_step(one, tokens(1)), run_step(other, tokens(2)))
    bench.span.go_on.clear()
    running = one.submit(Step(tokens(3)), position=1)
    await bench.wait_started()

    third = bench.open().submit(Step(tokens(0)), position=0)
    await bench.settle()
    assert bench.span.num_prepared == 2
    due = other.submit(Step(tokens(4)), position=1)
    await bench.settle()

    assert bench.span.num_prepared == 3
    third.cancel()
    bench.span.go_on.set()
    assert (await running).hidden[0, 0, 0] == 4.0
    assert (await due).hidden[0, 0, 0] == 6.0


async def test_a_session_in_a_batch_keeps_its_pages(bench: Bench) -> None:
    """The next batch may need them, but the device writes there."""
    first = await begin_batch(bench)

    second = bench.open().submit(Step(tokens(1, 2, 3, 4, 5)), position=0)
    await bench.settle()
    assert bench.engine.counters.num_preemptions == 0
    bench.span.go_on.set()

    assert (await first).hidden[0, 0, 0] == 1.0
    bench.clock.now += LIMITS.rest_s
    assert (await second).hidden[0, :, 0].tolist() == [1, 3, 6, 10, 15]


async def test_a_session_that_is_ready_may_be_closed(bench: Bench) -> None:
    """Its batch still runs, and then its pages are free."""
    first = await begin_batch(bench)
    closing, freed = bench.open(), asyncio.Event()
    second = closing.submit(Step(tokens(5)), position=0)
    await bench.settle()

    closing.close(freed.set)

    with pytest.raises(asyncio.CancelledError):
        await second
    assert not freed.is_set()
    bench.span.go_on.set()
    await first
    await freed.wait()


async def test_a_batch_that_fails_does_not_hold_up_the_one_behind_it(bench: Bench) -> None:
    """Its own device may be well again."""
    first = await begin_batch(bench)
    second = bench.open().submit(Step(tokens(5)), position=0)
    await bench.settle()

    bench.span.failure = RuntimeError("kernel")
    bench.span.go_on.set()

    with pytest.raises(BatchFailedError):
        await first
    assert (await second).hidden[0, 0, 0] == 5.0
