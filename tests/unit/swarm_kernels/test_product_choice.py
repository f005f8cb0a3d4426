"""The products with bfloat16 weights are those that were faster."""

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch

from swarm_kernels.bfloat16_product import AMX_SOURCE, Bfloat16Product, load_vector_product
from swarm_kernels.build import build_library
from swarm_kernels.measuring import NUM_TRIES
from swarm_kernels.product_choice import choose_product
from swarm_kernels.tiled_weight import can_tile


def clock_of(*took_s: float) -> Callable[[], float]:
    """Return a clock by which the ways take so long in each try; they take turns."""
    readings = accumulate(part for part_s in took_s * NUM_TRIES for part in (0.0, part_s))
    return lambda: next(readings)


@pytest.mark.parametrize(
    ("took_s", "is_own"), [((1.0, 2.0), True), ((5.0, 4.0), True), ((3.0, 2.0), False)]
)
def test_onednn_is_chosen_where_it_is_much_faster(
    took_s: tuple[float, float], is_own: bool
) -> None:
    """Our own give a row the same bits in any company, and so may take a little longer."""
    product = load_vector_product()
    if product is None or not can_tile(torch.bfloat16):
        pytest.skip("there is nothing to choose here")

    chosen = choose_product({"vectors": product}, clock=clock_of(*took_s))

    assert chosen is (product if is_own else None)


def test_of_our_own_the_faster_one_is_chosen() -> None:
    """Whatever oneDNN takes, if that is more."""
    vectors = load_vector_product()
    if vectors is None:
        pytest.skip("no C compiler here")
    amx = Bfloat16Product(build_library(AMX_SOURCE))
    products = {"amx": amx, "vectors": vectors}

    chosen = choose_product(products, clock=clock_of(2.0, 1.0, *([3.0] * can_tile(torch.bfloat16))))

    assert chosen is vectors


def test_without_any_of_our_own_nothing_is_chosen() -> None:
    """Then oneDNN's are used, or torch's."""
    assert choose_product({}) is None
