"""Times of different ways to compute the same."""

from itertools import accumulate, repeat

import torch
from torch import Tensor

from swarm_kernels.measuring import NUM_TRIES, best_times_s, mixed_rows


def test_a_disturbed_try_does_not_count() -> None:
    """The best try of each way does, and they take turns."""
    order = list[str]()
    ways = {name: (lambda name=name: order.append(name)) for name in ("first", "second")}
    took_s = [9.0, 5.0, 2.0, 7.0, *repeat(8.0, 2 * NUM_TRIES - 4)]
    readings = accumulate(part for part_s in took_s for part in (0.0, part_s))

    best = best_times_s(ways, clock=lambda: next(readings))

    assert best == {"first": 2.0, "second": 5.0}
    assert order == ["first", "second"] * (NUM_TRIES + 1)  # once more to get warm


def test_ways_are_compared_on_one_thread() -> None:
    """On a busy machine several would wait for the last of them; afterwards all are there again."""
    seen, before = set[int](), torch.get_num_threads()
    torch.set_num_threads(2)

    try:
        best_times_s({"way": lambda: seen.add(torch.get_num_threads())})
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


def test_rows_come_in_the_numbers_that_steps_have() -> None:
    """One, some, and a chunk of a prompt where that is wanted."""
    sizes, dtypes = list[int](), set[torch.dtype]()

    def multiply(rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        dtypes.add(rows.dtype)
        return rows

    mixed_rows(multiply, 4, torch.bfloat16)()
    mixed_rows(multiply, 4, torch.bfloat16, num_chunk_rows=None)()

    steps = [1] * 8 + [16, 16]
    assert sizes == [*steps, 64, *steps]
    assert dtypes == {torch.bfloat16}
