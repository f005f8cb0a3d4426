"""The dtype for a CPU is the one that was faster."""

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch

from swarm_server.engine.cpu_dtype import faster_cpu_dtype


def clock_of(*tries_s: float) -> Callable[[], float]:
    """Return a clock by which the tries take so long, one after the other."""
    readings = accumulate(part for took_s in tries_s for part in (0.0, took_s))
    return lambda: next(readings)


@pytest.mark.parametrize(
    ("tries_s", "chosen"),
    [
        ((1.0, 1.0, 1.0, 2.0, 2.0, 2.0), torch.bfloat16),
        ((3.0, 3.0, 3.0, 2.0, 2.0, 2.0), torch.float32),
        ((9.0, 1.0, 9.0, 2.0, 2.0, 2.0), torch.bfloat16),
    ],
)
def test_the_best_of_three_tries_decides(tries_s: tuple[float, ...], chosen: torch.dtype) -> None:
    """bfloat16 is tried first; a disturbed try does not count."""
    assert faster_cpu_dtype(clock=clock_of(*tries_s)) == chosen
