"""Products of a block's rows with its weights, packed for the processor where that is faster.

On other devices, and for small weights, products are torch's plain ones.
"""

from collections.abc import Callable
from typing import Any  # Any: torch leaves the context of a Function untyped

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import linear

from swarm_kernels import PackedWeight, can_pack, pack_weight

Linear = Callable[[Tensor], Tensor]
"""[..., num_inputs] -> [..., num_outputs]"""


def make_linear(weight: Tensor, bias: Tensor | None = None) -> Linear:
    """Return the product with a weight [num_outputs, num_inputs], plus the bias.

    Gradients flow to its rows, not to the weight. A packed product keeps a copy of its own, so the
    caller should let go of the weight.
    """
    if not can_pack(weight):
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
        self._packed = pack_weight(weight, bias)
        self._packed_for_gradients: PackedWeight | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        if rows.requires_grad and torch.is_grad_enabled():
            return _differentiable(rows, self)
        return self._packed.multiply(rows)

    def multiply(self, rows: Tensor) -> Tensor:
        """Return the product, unknown to autograd."""
        return self._packed.multiply(rows)

    def gradient_of_rows(self, gradient: Tensor) -> Tensor:
        """Return `gradient @ weight`, [..., num_inputs].

        The first call packs a second copy of the weight, turned, and keeps it: a server
        that trains needs twice the memory for its weights, and one that never does pays nothing.
        Laying the weight out anew each time makes a backward pass a tenth slower.
        """
        if self._packed_for_gradients is None:
            turned = self._packed.unpack().t().contiguous()
            self._packed_for_gradients = pack_weight(turned)
        return self._packed_for_gradients.multiply(gradient.contiguous())


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
