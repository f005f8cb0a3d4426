"""The dtype for a CPU is the one that was faster."""

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch

from swarm_kernels.measuring import NUM_TRIES
from swarm_server.engine.cpu_dtype import faster_cpu_dtype


def clock_of(*took_s: float) -> Callable[[], float]:
    """Return a clock by which the ways take so long in each try; they take turns."""
    readings = accumulate(part for part_s in took_s * NUM_TRIES for part in (0.0, part_s))
    return lambda: next(readings)


@pytest.mark.parametrize(
    ("took_s", "chosen"),
    [
        ((1.0, 2.0), torch.bfloat16),
        ((3.0, 2.0), torch.float32),
    ],
)
def test_the_faster_one_is_chosen(took_s: tuple[float, float], chosen: torch.dtype) -> None:
    """bfloat16 is tried first."""
    assert faster_cpu_dtype(clock=clock_of(*took_s)) == chosen
