"""Linear layers of a block that an adapter may change for one step.

The base weight is never touched: a step with an adapter adds the adapter's low-rank product, a step
without one pays for a comparison with None. Source: LoRA (Hu et al., 2021).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import linear

from swarm_server.engine.linear import Linear


@dataclass(frozen=True, slots=True)
class LowRank:
    """What an adapter adds to one linear layer: `up @ down`, its scale included.

    `down` is [rank, num_inputs], `up` is [num_outputs, rank]; float32, on the span's device. As in
    PEFT, adapters are exact in spans of 16 bits, too; for a few rows that is also the faster way.
    """

    down: Tensor
    up: Tensor


BlockAdapter: TypeAlias = Mapping[str, LowRank]
"""One adapter's weights for one block, by the name of the linear layer in the block."""


@dataclass(frozen=True, slots=True)
class AdapterRows:
    """Rows [start, end) go through this part of an adapter."""

    start: int
    end: int
    weights: BlockAdapter


def select_rows(adapters: Sequence[AdapterRows], indices: Tensor) -> list[AdapterRows]:
    """Return the same for rows that were picked from those that `adapters` is about.

    Args:
        adapters: of all rows.
        indices: int64 [num_picked], rising.
    """
    bounds = torch.tensor([(part.start, part.end) for part in adapters], device=indices.device)
    picked = torch.searchsorted(indices, bounds).tolist()
    return [
        AdapterRows(start, end, part.weights)
        for (start, end), part in zip(picked, adapters, strict=True)
        if start < end
    ]


class AdaptableLinear:
    """A linear layer that knows its name, and so finds what an adapter adds to it."""

    def __init__(self, name: str, base: Linear) -> None:
        self._name = name
        self.base = base

    def __call__(self, rows: Tensor, adapters: Sequence[AdapterRows]) -> Tensor:
        """Return [num_rows, num_outputs] for rows [num_rows, num_inputs]: a tensor of its own."""
        product = self.base(rows)
        for part in adapters:
            weights = part.weights.get(self._name)
            if weights is not None:
                adapted = rows[part.start : part.end].float()
                change = linear(linear(adapted, weights.down), weights.up)
                product[part.start : part.end] += change.to(product.dtype)
        return product
