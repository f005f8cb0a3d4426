"""Threads that want logits at the same time share a product."""

import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from swarm_client.models.shared_head import SharedHead

WEIGHT = torch.randn(11, 4, generator=torch.Generator().manual_seed(5))


class GatedHead:
    """A head whose products wait for `may_run`; knows how many rows each had.

    Attributes:
        max_rows: a product of more of them fails.
    """

    def __init__(self, max_rows: int = 1000) -> None:
        self.may_run = threading.Event()
        self.has_begun = threading.Event()
        self.num_rows: list[int] = []
        self._max_rows = max_rows

    def __call__(self, rows: Tensor) -> Tensor:
        self.num_rows.append(len(rows))
        self.has_begun.set()
        assert self.may_run.wait(10)
        if len(rows) > self._max_rows:
            raise ArithmeticError
        return rows @ WEIGHT.T


def rows_of(index: int, num_rows: int = 1) -> Tensor:
    return torch.randn(num_rows, 4, generator=torch.Generator().manual_seed(index))


def wait_until_waiting(shared: SharedHead, number: int) -> None:
    deadline = time.monotonic() + 10
    while shared.num_waiting < number:
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def begin_together(
    threads: ThreadPoolExecutor, shared: SharedHead, head: GatedHead, counts: Sequence[int]
) -> list[Future[Tensor]]:
    """Begin a product with the first rows, then let threads with the others wait for it."""
    running = [threads.submit(shared.run, head, rows_of(0, counts[0]))]
    assert head.has_begun.wait(10)
    for index, num_rows in enumerate(counts[1:], 1):
        running.append(threads.submit(shared.run, head, rows_of(index, num_rows)))
        wait_until_waiting(shared, index)
    head.may_run.set()
    return running


def test_rows_that_wait_share_the_next_product() -> None:
    """Each thread gets the logits of its own rows, whatever their number."""
    shared, head = SharedHead(), GatedHead()

    with ThreadPoolExecutor(4) as threads:
        running = begin_together(threads, shared, head, (1, 1, 3, 2))
        logits = [future.result(10) for future in running]

    assert head.num_rows == [1, 6]
    for index, num_rows in enumerate((1, 1, 3, 2)):
        torch.testing.assert_close(logits[index], rows_of(index, num_rows) @ WEIGHT.T)


def test_a_lone_thread_waits_for_nobody() -> None:
    """Its rows go through as they are, and come back in float32."""
    shared = SharedHead()

    for index in range(3):
        logits = shared.run(lambda rows: (rows @ WEIGHT.T).bfloat16(), rows_of(index))

        assert logits.dtype == torch.float32
        assert torch.equal(logits, (rows_of(index) @ WEIGHT.T).bfloat16().float())


def test_a_product_that_fails_is_tried_by_each_alone() -> None:
    """A row that cannot be computed is no harm to the others."""
    shared, head = SharedHead(), GatedHead(max_rows=1)

    with ThreadPoolExecutor(3) as threads:
        running = begin_together(threads, shared, head, (1, 1, 1))
        failures = [future.exception(10) for future in running]

    assert head.num_rows == [1, 2, 1]
    assert [type(failure) for failure in failures] == [type(None), ArithmeticError, type(None)]


def test_products_are_bounded() -> None:
    """What does not fit waits for the one after; too many rows of one thread go by themselves."""
    shared, head = SharedHead(), GatedHead()

    with ThreadPoolExecutor(4) as threads:
        running = begin_together(threads, shared, head, (1, 40, 20, 20))
        shared.run(head, rows_of(9, 100))
        for future in running:
            future.result(10)

    assert sorted(head.num_rows) == [1, 20, 60, 100]


def test_a_thread_that_is_interrupted_while_it_waits_leaves_nothing_behind() -> None:
    """The others go on, without its rows."""
    shared, head = SharedHead(), GatedHead()

    def interrupt() -> None:
        assert head.has_begun.wait(10)
        wait_until_waiting(shared, 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(shared.run, head, rows_of(0))
        assert head.has_begun.wait(10)
        interrupting = threads.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            shared.run(head, rows_of(1))
        interrupting.result(10)
        last = threads.submit(shared.run, head, rows_of(2))
        wait_until_waiting(shared, 1)
        head.may_run.set()
        first.result(10)
        torch.testing.assert_close(last.result(10), rows_of(2) @ WEIGHT.T)

    assert head.num_rows == [1, 1]


def test_logits_may_be_changed_whatever_mode_the_other_threads_are_in() -> None:
    """Those made in inference mode could not be, elsewhere."""
    shared = SharedHead()

    with torch.inference_mode():
        logits = shared.run(lambda rows: rows @ WEIGHT.T, rows_of(0))

    logits[0, 0] = -torch.inf
    assert not logits.is_inference()
