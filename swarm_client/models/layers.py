"""Frozen layers on given tensors, which they hold without a copy."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """Scale to unit root mean square, computed in float32, then by a weight in its own dtype."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Return `hidden`, normed over its last axis, in the weight's dtype."""
        wide = hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        normed: Tensor = self.weight * (wide * scale).to(self.weight.dtype)
        return normed


class LayerNorm(nn.Module):
    """Scale to zero mean and unit variance, then by a weight, and add a bias."""

    def __init__(self, weight: Tensor, bias: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Return `hidden`, normed over its last axis."""
        return functional.layer_norm(
            hidden, self.weight.shape, self.weight, self.bias, self.epsilon
        )


def frozen_embedding(weight: Tensor) -> nn.Embedding:
    """Return an embedding on `weight`, `[vocab_size, hidden_size]`."""
    vocab_size, hidden_size = weight.shape
    return nn.Embedding(vocab_size, hidden_size, _weight=weight, _freeze=True)


def frozen_linear(weight: Tensor) -> nn.Linear:
    """Return a linear layer without bias on `weight`, `[num_outputs, num_inputs]`."""
    num_outputs, num_inputs = weight.shape
    layer = nn.Linear(num_inputs, num_outputs, bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer
