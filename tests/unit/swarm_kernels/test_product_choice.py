"""The products with bfloat16 weights are those that were faster."""

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch

from swarm_kernels.bfloat16_product import load_bfloat16_product
from swarm_kernels.product_choice import choose_product
from swarm_kernels.tiled_weight import can_tile


def clock_of(*tries_s: float) -> Callable[[], float]:
    """Return a clock by which the tries take so long, one after the other."""
    readings = accumulate(part for took_s in tries_s for part in (0.0, took_s))
    return lambda: next(readings)


@pytest.mark.parametrize(
    ("tries_s", "is_own"),
    [
        ((1.0, 1.0, 1.0, 2.0, 2.0, 2.0), True),
        ((3.0, 3.0, 3.0, 2.0, 2.0, 2.0), False),
        ((9.0, 1.0, 9.0, 2.0, 2.0, 2.0), True),
    ],
)
def test_the_best_of_three_tries_decides(tries_s: tuple[float, ...], is_own: bool) -> None:
    """Our own are tried first; a disturbed try does not count."""
    product = load_bfloat16_product()
    if product is None or not can_tile(torch.bfloat16):
        pytest.skip("there is nothing to choose here")

    chosen = choose_product(product, clock=clock_of(*tries_s))

    assert chosen is (product if is_own else None)
