"""The products with bfloat16 weights are those that were faster."""

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch

from swarm_kernels.bfloat16_product import load_bfloat16_product
from swarm_kernels.measuring import NUM_TRIES
from swarm_kernels.product_choice import choose_product
from swarm_kernels.tiled_weight import can_tile


def clock_of(*took_s: float) -> Callable[[], float]:
    """Return a clock by which the ways take so long in each try; they take turns."""
    readings = accumulate(part for part_s in took_s * NUM_TRIES for part in (0.0, part_s))
    return lambda: next(readings)


@pytest.mark.parametrize(
    ("took_s", "is_own"),
    [
        ((1.0, 2.0), True),
        ((3.0, 2.0), False),
    ],
)
def test_the_faster_one_is_chosen(took_s: tuple[float, float], is_own: bool) -> None:
    """Our own are tried first."""
    product = load_bfloat16_product()
    if product is None or not can_tile(torch.bfloat16):
        pytest.skip("there is nothing to choose here")

    chosen = choose_product(product, clock=clock_of(*took_s))

    assert chosen is (product if is_own else None)
