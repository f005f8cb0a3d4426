"""Which bfloat16 products are faster on this CPU, found out once, briefly."""

from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Final

import torch
from torch import Tensor

from swarm_kernels.bfloat16_product import (
    Bfloat16Product,
    InterleavedWeight,
    load_bfloat16_product,
)
from swarm_kernels.tiled_weight import TiledWeight, can_tile
from swarm_protocol.logs import get_logger

log = get_logger(__name__)

_NUM_INPUTS: Final = 1024
_NUM_OUTPUTS: Final = 2816
_NUM_ROWS: Final = (1, 1, 1, 1, 1, 1, 1, 1, 16, 16, 64)
"""Decode steps of one session and of some, and a chunk of a prompt."""

_NUM_TRIES: Final = 3


@cache
def chosen_product() -> Bfloat16Product | None:
    """Return our own products where they are the fastest, else None; a tenth of a second, once."""
    product = load_bfloat16_product()
    return None if product is None else choose_product(product)


def choose_product(
    product: Bfloat16Product, *, clock: Callable[[], float] = perf_counter
) -> Bfloat16Product | None:
    """Return `product` if it is faster than oneDNN's, or oneDNN has none; the best of three tries.

    Compared are rows in different numbers through one layer of a small model.
    """
    if not can_tile(torch.bfloat16):
        return product
    weight = torch.ones(_NUM_OUTPUTS, _NUM_INPUTS, dtype=torch.bfloat16)
    own_s = _measure(InterleavedWeight(product, weight, None).multiply, clock)
    tiled_s = _measure(TiledWeight(weight, None).multiply, clock)
    chosen = product if own_s < tiled_s else None
    log.info(
        "bfloat16_product_chosen",
        product="onednn" if chosen is None else "own",
        own_ms=round(1e3 * own_s, 2),
        onednn_ms=round(1e3 * tiled_s, 2),
    )
    return chosen


@torch.inference_mode()
def _measure(multiply: Callable[[Tensor], Tensor], clock: Callable[[], float]) -> float:
    """Return how many seconds the rows take at best, once everything is warm."""
    batches = [torch.ones(num_rows, _NUM_INPUTS, dtype=torch.bfloat16) for num_rows in _NUM_ROWS]
    for rows in batches[-4:]:
        multiply(rows)
    tries = []
    for _ in range(_NUM_TRIES):
        started_at = clock()
        for rows in batches:
            multiply(rows)
        tries.append(clock() - started_at)
    return min(tries)
