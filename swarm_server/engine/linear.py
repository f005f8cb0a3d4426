"""Matrix products with weights laid out for the processor.

oneDNN reads weights in tiles. torch keeps them as rows and pays for it in every product: packed
once, one row through eight bfloat16 blocks of hidden size 1024 takes 12 ms instead of 24, and a
few float32 rows half the time. The operations are those that torch's own compiler emits; without
them, and on other devices, products are torch's plain ones.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import linear

Linear = Callable[[Tensor], Tensor]
"""[..., num_inputs] -> [..., num_outputs]"""

_EXPECTED_ROWS: Final = 16
"""A hint for the layout. Every layout serves any number of rows, and a decode step has few."""

_MIN_FLOAT32_SIZE: Final = 1 << 19
"""Below it one float32 row is faster through torch's plain product: a packed one costs 10 us."""


def make_linear(weight: Tensor, bias: Tensor | None = None) -> Linear:
    """Return the product with a weight [num_outputs, num_inputs], plus the bias.

    A packed product keeps a copy of its own, so the caller should let go of the weight.
    """
    if not _can_pack(weight):
        return lambda rows: linear(rows, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, _EXPECTED_ROWS)
    multiply = torch.ops.mkldnn._linear_pointwise

    def packed_linear(rows: Tensor) -> Tensor:
        product: Tensor = multiply(rows, packed, bias, "none", [], "")
        return product

    return packed_linear


def _can_pack(weight: Tensor) -> bool:
    operations = torch.ops.mkldnn  # empty in a torch without oneDNN
    if weight.device.type != "cpu" or not hasattr(operations, "_linear_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(operations._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32 and weight.numel() >= _MIN_FLOAT32_SIZE
