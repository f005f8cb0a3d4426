"""The compute thread."""

import asyncio
import threading

import pytest
import torch

from swarm_server.engine import ComputeThread
from swarm_server.engine.compute_thread import Urgency


async def test_functions_run_elsewhere_one_after_another() -> None:
    """All on one thread that is not the loop's, in the order of submission."""
    compute = ComputeThread(num_threads=1)

    threads = await asyncio.gather(*(compute.run(threading.get_ident) for _ in range(3)))

    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
    await compute.close()


async def test_the_number_of_threads_is_that_threads_own() -> None:
    """Torch's threads are set where the work is done."""
    compute = ComputeThread(num_threads=1)

    assert await compute.run(torch.get_num_threads) == 1

    await compute.close()


async def test_the_loop_goes_on_while_a_function_runs() -> None:
    """A function that waits for the loop does not block it."""
    compute, told = ComputeThread(), threading.Event()

    waiting = asyncio.ensure_future(compute.run(told.wait))
    await asyncio.sleep(0)
    told.set()

    assert await waiting
    await compute.close()


async def test_close_drops_what_is_queued_and_waits_for_what_runs() -> None:
    """The running function ends; the queued one never starts."""
    compute, started, go_on = ComputeThread(), threading.Event(), threading.Event()

    def run() -> None:
        started.set()
        go_on.wait()

    running = compute.submit(run)
    queued, dropped = compute.submit(started.clear), threading.Event()
    queued.add_done_callback(lambda _: dropped.set())
    await asyncio.to_thread(started.wait)
    closing = asyncio.ensure_future(compute.close())
    await asyncio.to_thread(dropped.wait)
    go_on.set()
    await closing

    assert running.done()
    assert queued.cancelled()
    assert started.is_set()


async def test_who_leaves_waits_for_nothing() -> None:
    """The running function may take long; the queued one never starts."""
    compute, go_on = ComputeThread(), threading.Event()
    running = compute.submit(go_on.wait)
    queued = compute.submit(go_on.clear)

    compute.leave()

    assert queued.cancelled()
    assert not running.done()
    go_on.set()
    await compute.close()
    assert running.done()


async def test_inference_goes_before_training_that_waits() -> None:
    """And each in the order of submission."""
    compute, go_on, order = ComputeThread(), threading.Event(), list[str]()
    compute.submit(go_on.wait)
    training = [
        compute.submit(lambda name=name: order.append(name), Urgency.TRAINING)  # type: ignore[misc]
        for name in ("training 1", "training 2")
    ]
    for name in ("inference 1", "inference 2"):
        compute.submit(lambda name=name: order.append(name))  # type: ignore[misc]

    go_on.set()
    await asyncio.gather(*map(asyncio.wrap_future, training))

    assert order == ["inference 1", "inference 2", "training 1", "training 2"]
    await compute.close()


async def test_a_long_function_gives_way_to_inference_only() -> None:
    """What waits to infer runs in the middle of it; other training after it."""
    compute, started, go_on = ComputeThread(), threading.Event(), threading.Event()
    order = list[str]()

    def train() -> None:
        started.set()
        go_on.wait()
        compute.give_way()
        order.append("training 1")

    compute.submit(train, Urgency.TRAINING)
    await asyncio.to_thread(started.wait)
    last = compute.submit(lambda: order.append("training 2"), Urgency.TRAINING)
    compute.submit(lambda: order.append("inference"))
    go_on.set()
    await asyncio.wrap_future(last)

    assert order == ["inference", "training 1", "training 2"]
    await compute.close()


async def test_a_function_that_fails_tells_who_waits() -> None:
    """And the thread goes on."""
    compute = ComputeThread()

    def fail() -> None:
        raise ValueError("of ours")

    with pytest.raises(ValueError, match="of ours"):
        await compute.run(fail)

    assert await compute.run(lambda: 7) == 7
    await compute.close()
