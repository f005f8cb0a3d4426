"""Matrix products with weights laid out for the processor.

oneDNN reads weights in tiles. torch keeps them as rows and pays for it in every product: packed
once, one row through eight bfloat16 blocks of hidden size 1024 takes 12 ms instead of 24, and a
few float32 rows half the time. The operations are those that torch's own compiler emits; without
them, and on other devices, products are torch's plain ones.
"""

from collections.abc import Callable
from typing import Any, Final  # Any: torch leaves the context of a Function untyped

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import linear

Linear = Callable[[Tensor], Tensor]
"""[..., num_inputs] -> [..., num_outputs]"""

_EXPECTED_ROWS: Final = 16
"""A hint for the layout. Every layout serves any number of rows, and a decode step has few."""

_EXPECTED_TRAINING_ROWS: Final = 256
"""The same for the layout that gradients go through."""

_MIN_FLOAT32_SIZE: Final = 1 << 19
"""Below it one float32 row is faster through torch's plain product: a packed one costs 10 us."""


def make_linear(weight: Tensor, bias: Tensor | None = None) -> Linear:
    """Return the product with a weight [num_outputs, num_inputs], plus the bias.

    Gradients flow to its rows, not to the weight. A packed product keeps a copy of its own, so the
    caller should let go of the weight.
    """
    if not _can_pack(weight):
        return PlainLinear(weight, bias)
    return _PackedLinear(weight, bias)


class PlainLinear:
    """The product of torch's own. Kernels that do without it read its parts."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the product; see `Linear`."""
        return linear(rows, self.weight, self.bias)


class _PackedLinear:
    """The product with a packed weight."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _EXPECTED_ROWS)
        self._packed_for_gradients: Tensor | None = None
        self._bias = bias
        self._multiply = torch.ops.mkldnn._linear_pointwise

    def __call__(self, rows: Tensor) -> Tensor:
        if rows.requires_grad and torch.is_grad_enabled():
            return _differentiable(rows, self)
        return self.multiply(rows)

    def multiply(self, rows: Tensor) -> Tensor:
        """Return the product, unknown to autograd."""
        product: Tensor = self._multiply(rows, self._packed, self._bias, "none", [], "")
        return product

    def gradient_of_rows(self, gradient: Tensor) -> Tensor:
        """Return `gradient @ weight`, [..., num_inputs].

        The first call packs a second copy of the weight, turned, and keeps it: a server
        that trains needs twice the memory for its weights, and one that never does pays nothing.
        Laying the weight out anew each time makes a backward pass a tenth slower.
        """
        if self._packed_for_gradients is None:
            turned = self._packed.to_dense().t().contiguous()
            self._packed_for_gradients = torch.ops.mkldnn._reorder_linear_weight(
                turned, _EXPECTED_TRAINING_ROWS
            )
        rows: Tensor = self._multiply(
            gradient.contiguous(), self._packed_for_gradients, None, "none", [], ""
        )
        return rows


class _PackedProduct(Function):
    """A packed product for autograd; it saves nothing, for the weight is fixed."""

    @staticmethod
    def forward(context: Any, rows: Tensor, layer: _PackedLinear) -> Tensor:
        context.layer = layer
        return layer.multiply(rows)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return context.layer.gradient_of_rows(gradient), None


def _differentiable(rows: Tensor, layer: _PackedLinear) -> Tensor:
    product: Tensor = _PackedProduct.apply(rows, layer)  # type: ignore[no-untyped-call]
    return product


def _can_pack(weight: Tensor) -> bool:
    operations = torch.ops.mkldnn  # empty in a torch without oneDNN
    if weight.device.type != "cpu" or not hasattr(operations, "_linear_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(operations._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32 and weight.numel() >= _MIN_FLOAT32_SIZE
