"""Weights in the tiles of oneDNN."""

from typing import Final

import torch
from torch import Tensor

_EXPECTED_ROWS: Final = 16
"""A hint for the layout. Every layout serves any number of rows, and a decode step has few."""


class TiledWeight:
    """A `PackedWeight` for oneDNN, of a dtype for which `can_tile` is true."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take `[num_outputs, num_inputs]` on the CPU; a copy is kept, and the bias."""
        self._tiles: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _EXPECTED_ROWS)
        self._bias = bias
        self._multiply = torch.ops.mkldnn._linear_pointwise

    def multiply(self, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return the product; see `PackedWeight.multiply`."""
        product: Tensor = self._multiply(rows, self._tiles, self._bias, "none", [], "")
        return product if dtype is None else product.to(dtype)

    def unpack(self) -> Tensor:
        """Return the weight; see `PackedWeight.unpack`."""
        weight: Tensor = self._tiles.to_dense()
        return weight


def can_tile(dtype: torch.dtype) -> bool:
    """Tell whether this torch and this processor have the products."""
    operations = torch.ops.mkldnn  # empty in a torch without oneDNN
    if not hasattr(operations, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(operations._is_mkldnn_bf16_supported())
    return dtype == torch.float32
