"""Which bfloat16 products are faster on this CPU, found out once, briefly."""

from collections.abc import Callable
from functools import cache
from time import thread_time
from typing import Final

import torch

from swarm_kernels.bfloat16_product import (
    Bfloat16Product,
    InterleavedWeight,
    load_bfloat16_product,
)
from swarm_kernels.measuring import fastest_of, mixed_rows
from swarm_kernels.tiled_weight import TiledWeight, can_tile
from swarm_protocol.logs import get_logger

log = get_logger(__name__)

_NUM_INPUTS: Final = 1024
_NUM_OUTPUTS: Final = 2816


@cache
def chosen_product() -> Bfloat16Product | None:
    """Return our own products where they are the fastest, else None; 0.2 s, once."""
    product = load_bfloat16_product()
    return None if product is None else choose_product(product)


def choose_product(
    product: Bfloat16Product, *, clock: Callable[[], float] = thread_time
) -> Bfloat16Product | None:
    """Return `product` if it is faster than oneDNN's, or oneDNN has none.

    Compared are rows in different numbers through one layer of a small model.
    """
    if not can_tile(torch.bfloat16):
        return product
    weight = torch.ones(_NUM_OUTPUTS, _NUM_INPUTS, dtype=torch.bfloat16)
    products = {
        "own": InterleavedWeight(product, weight, None).multiply,
        "onednn": TiledWeight(weight, None).multiply,
    }
    ways = {name: mixed_rows(way, _NUM_INPUTS, weight.dtype) for name, way in products.items()}
    fastest = fastest_of(ways, clock=clock)
    log.info("bfloat16_product_chosen", product=fastest.name, **fastest.took_ms)
    return product if fastest.name == "own" else None
