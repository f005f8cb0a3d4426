"""Weights laid out for a processor, in the way that it multiplies fastest.

torch keeps weights as rows and pays for it in every product. oneDNN reads them in tiles: packed
once, one bfloat16 row through eight blocks of hidden size 1024 takes 12 ms instead of 24, and a few
float32 rows half the time; the operations are those that torch's own compiler emits. But where a
processor has no instructions for bfloat16, oneDNN takes six times as long for sixteen rows as
products of our own, and where it has AMX, up to twice as long for a few.
"""

from typing import Final, Protocol

import torch
from torch import Tensor

from swarm_kernels.bfloat16_product import InterleavedWeight
from swarm_kernels.product_choice import chosen_product
from swarm_kernels.tiled_weight import TiledWeight, can_tile

_MIN_FLOAT32_SIZE: Final = 1 << 19
"""Below it one float32 row is faster through torch's plain product: a packed one costs 10 us."""


class PackedWeight(Protocol):
    """A weight `[num_outputs, num_inputs]` on the CPU, and a bias, fixed. Unknown to autograd."""

    def multiply(self, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return `rows @ weight.T + bias`, [..., num_outputs]: a tensor of its own.

        Args:
            rows: [..., num_inputs] in the weight's dtype.
            dtype: of the result; None is that of the rows.
        """

    def unpack(self) -> Tensor:
        """Return a copy of the weight as it was."""


def can_pack(weight: Tensor) -> bool:
    """Tell whether this weight, on this machine, is faster packed."""
    if weight.device.type != "cpu":
        return False
    if weight.dtype == torch.bfloat16:
        return chosen_product() is not None or can_tile(torch.bfloat16)
    return (
        weight.dtype == torch.float32
        and weight.numel() >= _MIN_FLOAT32_SIZE
        and can_tile(torch.float32)
    )


def pack_weight(weight: Tensor, bias: Tensor | None = None) -> PackedWeight:
    """Return a packed copy of a weight of which `can_pack` is true."""
    assert can_pack(weight)
    product = chosen_product() if weight.dtype == torch.bfloat16 else None
    return (
        TiledWeight(weight, bias) if product is None else InterleavedWeight(product, weight, bias)
    )
