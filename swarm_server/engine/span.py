"""A span of blocks that belong to one server."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.adaptable_linear import AdapterRows, BlockAdapter
from swarm_server.engine.batch import AdapterRange
from swarm_server.engine.block_context import BlockContext
from swarm_server.engine.decoder_block import BlockShape
from swarm_server.engine.positions import PositionTables


class Block(Protocol):
    """One transformer layer with its weights."""

    @property
    def window(self) -> int | None:
        """How many tokens a token sees, itself included; None is all before it."""

    def run(self, hidden: Tensor, context: BlockContext) -> Tensor:
        """Return the hidden states after this block, [num_tokens or num_wanted, hidden_size].

        Differentiable with respect to `hidden` where autograd is on and the attention allows it.

        Args:
            hidden: of the batch; not to be changed.
            context: of the batch, with what is this block's of it.
        """


SpanAdapter: TypeAlias = Sequence[BlockAdapter]
"""One adapter's weights for each block of a span, in order."""


class Span:
    """Consecutive blocks with their weights. For the compute thread only."""

    def __init__(
        self,
        blocks: BlockRange,
        layers: Sequence[Block],
        shape: BlockShape,
        *,
        dtype: torch.dtype,
        device: str = "cpu",
        adapters: Mapping[str, SpanAdapter] | None = None,
    ) -> None:
        assert len(layers) == len(blocks)
        self.blocks = blocks
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.adapters = dict(adapters or {})
        self.tables = PositionTables(shape.head_dim, dtype=dtype, device=device)
        self._layers = tuple(layers)

    @property
    def windows(self) -> list[int | None]:
        """The window of every block, for `KVLayout`."""
        return [layer.window for layer in self._layers]

    def layers(self, blocks: BlockRange) -> Sequence[Block]:
        """Return some of our blocks, in order."""
        return self._layers[blocks.start - self.blocks.start : blocks.end - self.blocks.start]

    def adapter_rows(self, block_index: int, adapters: Sequence[AdapterRange]) -> list[AdapterRows]:
        """Return a block's parts of adapters; its index counts from the start of the model."""
        place = block_index - self.blocks.start
        return [
            AdapterRows(part.start, part.end, self.adapters[part.name][place]) for part in adapters
        ]
