"""The part of a block that looks at each token alone: plain, gated, or a mixture of experts."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu, softmax

from swarm_server.engine.adaptable_linear import AdaptableLinear, AdapterRows, select_rows
from swarm_server.engine.kernels import row_operations

FeedForward: TypeAlias = Callable[[Tensor, Sequence[AdapterRows]], Tensor]
"""[num_tokens, hidden_size] -> the same shape: what is to be added to the hidden states."""

Activation: TypeAlias = Callable[[Tensor], Tensor]


def gelu_tanh(values: Tensor) -> Tensor:
    """Return GELU in its tanh approximation, which is BLOOM's own as well."""
    return gelu(values, approximate="tanh")


ACTIVATIONS: Final[Mapping[str, Activation]] = MappingProxyType(
    {"silu": silu, "gelu": gelu, "gelu_pytorch_tanh": gelu_tanh}
)
"""By the names that configs use."""


class PlainMLP:
    """Up, activation, down."""

    def __init__(self, up: AdaptableLinear, down: AdaptableLinear, activation: Activation) -> None:
        self._up = up
        self._down = down
        self._activation = activation

    def __call__(self, hidden: Tensor, adapters: Sequence[AdapterRows]) -> Tensor:
        """Return what is to be added to the hidden states."""
        return self._down(self._activation(self._up(hidden, adapters)), adapters)


class GatedMLP:
    """`down(activation(gate) * up)`, with gate and up as one product, gate first."""

    def __init__(
        self, gate_up: AdaptableLinear, down: AdaptableLinear, activation: Activation = silu
    ) -> None:
        self.gate_up = gate_up
        self.down = down
        self.activation = activation

    def __call__(self, hidden: Tensor, adapters: Sequence[AdapterRows]) -> Tensor:
        """Return what is to be added to the hidden states."""
        return self.down(self._gated(self.gate_up(hidden, adapters)), adapters)

    def _gated(self, gates_ups: Tensor) -> Tensor:
        if self.activation is silu and gates_ups.is_contiguous():
            operations = row_operations(gates_ups)
            if operations is not None:
                return operations.gate(gates_ups)
        gate, up = gates_ups.chunk(2, -1)
        opened = self.activation(gate)
        # Autograd keeps both factors, so only without it the product may overwrite one.
        return opened * up if torch.is_grad_enabled() else opened.mul_(up)


class MixtureOfExperts:
    """Each token goes through the `top_k` experts that a router likes best (Mixtral).

    The router's probabilities are float32; those of the chosen experts are made to sum to one.
    """

    def __init__(self, router: AdaptableLinear, experts: Sequence[FeedForward], top_k: int) -> None:
        self._router = router
        self._experts = tuple(experts)
        self._top_k = top_k

    def __call__(self, hidden: Tensor, adapters: Sequence[AdapterRows]) -> Tensor:
        """Return what is to be added to the hidden states; runs only experts that were chosen."""
        likes, chosen = softmax(self._router(hidden, adapters).float(), -1).topk(self._top_k, -1)
        shares = likes / likes.sum(-1, keepdim=True)
        mixed = torch.zeros_like(hidden)
        for index in sorted(set(chosen.flatten().tolist())):
            row, place = torch.where(chosen == index)
            own = select_rows(adapters, row) if adapters else ()
            output = self._experts[index](hidden[row], own) * shares[row, place, None]
            mixed.index_add_(0, row, output.to(mixed.dtype))
        return mixed
