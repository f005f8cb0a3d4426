"""The compute thread."""

import asyncio
import threading

import torch

from swarm_server.engine import ComputeThread


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
