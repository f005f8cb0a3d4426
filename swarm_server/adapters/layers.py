"""What the linear layers of a block are made of, and the weights of an adapter for them.

transformers' modules are adapted one by one; our layers are several of them side by side, or their
outputs in another order. An adapter's parts are laid out in the same way:

    down = [ A_q ]     up = [ B_q          ]
           [ A_k ]          [      B_k     ]
           [ A_v ]          [          B_v ]
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from swarm_server.engine.adaptable_linear import LowRank


@dataclass(frozen=True, slots=True)
class Module:
    """A linear module of transformers: its name below the block, e.g. `self_attn.q_proj`."""

    name: str
    num_outputs: int
    num_inputs: int


def _as_they_are(rows: Tensor) -> Tensor:
    return rows


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer of ours: modules with the same inputs, their outputs one after another.

    `arrange` reorders the rows of a matrix [num_outputs, …] as the loader does with the weight.
    """

    modules: tuple[Module, ...]
    arrange: Callable[[Tensor], Tensor] = _as_they_are


Layers: TypeAlias = Mapping[str, Layer]
"""The linear layers of a block, by their names there."""

Delta: TypeAlias = tuple[Tensor, Tensor]
"""A and B of one module, float32 [rank, num_inputs] and [num_outputs, rank], B scaled."""


def lay_out(layer: Layer, deltas: Mapping[str, Delta], *, device: str) -> LowRank | None:
    """Return what an adapter adds to a layer; None when it has nothing for any of its modules.

    Args:
        layer: of the block.
        deltas: by module; shapes as the layer's modules ask for.
        device: of the result.
    """
    downs: list[Tensor] = []
    ups: list[Tensor] = []
    for module in layer.modules:
        if module.name in deltas:
            down, up = deltas[module.name]
            downs.append(down)
            ups.append(up)
        else:
            ups.append(torch.zeros(module.num_outputs, 0))
    if not downs:
        return None
    up = layer.arrange(torch.block_diag(*ups))  # type: ignore[no-untyped-call]  # torch's
    return LowRank(torch.cat(downs).to(device), up.to(device))
