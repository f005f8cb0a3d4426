"""The norms of the families, each rounded where transformers rounds it."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import layer_norm

from swarm_server.engine.kernels import row_operations

Norm = Callable[[Tensor], Tensor]
"""[..., size] -> the same shape"""


class RMSNorm:
    """Scale to unit root mean square, in float32, rounded before the weight (Llama and kin)."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        self.weight = weight
        self.eps = eps

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return `hidden`, normed over its last axis."""
        if hidden.dim() == 2 and hidden.is_contiguous():
            operations = row_operations(hidden)
            if operations is not None:
                return operations.rms_norm(hidden, self.weight, self.eps)
        exact = hidden.float()
        return self.weight * (exact * _inverse_rms(exact, self.eps)).to(hidden.dtype)


class OffsetRMSNorm:
    """The same times one plus the weight, all in float32 and rounded at the end (Gemma)."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        self._factor = weight.float() + 1
        self._eps = eps

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return `hidden`, normed over its last axis."""
        exact = hidden.float()
        return (exact * _inverse_rms(exact, self._eps) * self._factor).to(hidden.dtype)


class LayerNorm:
    """Subtract the mean and scale to unit deviation (BLOOM, Falcon)."""

    def __init__(self, weight: Tensor, bias: Tensor, eps: float) -> None:
        self._weight = weight
        self._bias = bias
        self._eps = eps

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return `hidden`, normed over its last axis."""
        return layer_norm(hidden, self._weight.shape, self._weight, self._bias, self._eps)


def _inverse_rms(exact: Tensor, eps: float) -> Tensor:
    squares = (exact * exact).sum(-1, keepdim=True)
    # In place: a third less time. Nothing that autograd keeps is overwritten.
    inverse: Tensor = squares.div_(exact.shape[-1]).add_(eps).rsqrt_()
    return inverse
