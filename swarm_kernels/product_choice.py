"""Which bfloat16 products are faster on this CPU, found out once, briefly."""

from collections.abc import Callable, Mapping
from functools import cache
from math import inf
from time import thread_time
from typing import Final

import torch

from swarm_kernels.bfloat16_product import (
    Bfloat16Product,
    InterleavedWeight,
    load_amx_product,
    load_vector_product,
    load_vnni_product,
)
from swarm_kernels.measuring import best_times_s, for_log, mixed_rows
from swarm_kernels.tiled_weight import TiledWeight, can_tile
from swarm_protocol.logs import get_logger

log = get_logger(__name__)

_NUM_INPUTS: Final = 1024
_NUM_OUTPUTS: Final = 2816

_MUCH_FASTER: Final = 0.7
"""oneDNN is taken if it needs less than this part of the time of our own products: with those a row
comes out as the same bits whatever rows are beside it, and it does not promise that.
"""


@cache
def chosen_product() -> Bfloat16Product | None:
    """Return products of our own where some are the fastest, else None; 0.2 s, once."""
    amx = load_amx_product()
    products = {
        "amx": amx,
        "vnni": load_vnni_product() if amx is None else None,  # never faster than AMX
        "vectors": load_vector_product(),
    }
    return choose_product({name: product for name, product in products.items() if product})


def choose_product(
    products: Mapping[str, Bfloat16Product], *, clock: Callable[[], float] = thread_time
) -> Bfloat16Product | None:
    """Return the fastest of our own products; None where there are none, or oneDNN's are better.

    Compared are rows in different numbers through one layer of a small model.

    Args:
        products: our own, by names for the log.
        clock: in seconds.
    """
    weight = torch.ones(_NUM_OUTPUTS, _NUM_INPUTS, dtype=torch.bfloat16)
    weights: dict[str, InterleavedWeight | TiledWeight] = {
        name: InterleavedWeight(product, weight, None) for name, product in products.items()
    }
    if can_tile(torch.bfloat16):
        weights["onednn"] = TiledWeight(weight, None)
    if not products or len(weights) == 1:
        return next(iter(products.values()), None)
    ways = {
        name: mixed_rows(packed.multiply, _NUM_INPUTS, weight.dtype)
        for name, packed in weights.items()
    }
    took_s = best_times_s(ways, clock=clock)
    own = min(products, key=took_s.__getitem__)
    is_worth_it = took_s.get("onednn", inf) < _MUCH_FASTER * took_s[own]
    chosen = "onednn" if is_worth_it else own
    log.info("bfloat16_product_chosen", product=chosen, **for_log(took_s))
    return products.get(chosen)
