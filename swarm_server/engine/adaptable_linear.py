"""Linear layers of a block that an adapter may change for one step.

The base weight is never touched: a step with an adapter adds the adapter's low-rank product, a step
without one pays for a comparison with None. Source: LoRA (Hu et al., 2021).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

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


class AdaptableLinear:
    """A linear layer that knows its name, and so finds what an adapter adds to it."""

    def __init__(self, name: str, base: Linear) -> None:
        self._name = name
        self._base = base

    def __call__(self, rows: Tensor, adapter: BlockAdapter | None) -> Tensor:
        """Return [..., num_outputs] for rows [..., num_inputs]: a tensor of its own."""
        product = self._base(rows)
        if adapter is None or self._name not in adapter:
            return product
        weights = adapter[self._name]
        change = linear(linear(rows.float(), weights.down), weights.up)
        return product + change.to(product.dtype)
