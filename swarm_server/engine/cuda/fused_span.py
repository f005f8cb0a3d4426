"""Fused blocks of a span, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.cuda.attention import Heads, Rows, RowsAttention
from swarm_server.engine.cuda.fused_block import FusedBlock
from swarm_server.engine.cuda.row_kernels import rotations


@dataclass(frozen=True, slots=True)
class FusedSpan:
    """The blocks of a span, all of one shape, over the pages of each.

    `frequencies`: float32 [head_dim / 2], radians per position.
    """

    range: BlockRange
    blocks: Sequence[FusedBlock]
    pages: Sequence[Tensor]
    frequencies: Tensor

    @property
    def heads(self) -> Heads:
        """Return the heads of a block."""
        return self.blocks[0].heads

    @property
    def hidden_size(self) -> int:
        """Return the width of hidden states."""
        return len(self.blocks[0].attention_norm)

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of hidden states, weights and pages."""
        return self.blocks[0].attention_norm.dtype

    @property
    def device(self) -> torch.device:
        """Return the GPU that all is on."""
        return self.blocks[0].attention_norm.device

    def rows(self, positions: Tensor, table_starts: Tensor, page_ids: Tensor) -> Rows:
        """Return rows with their rotations; see `Rows`."""
        cos, sin = rotations(positions, self.frequencies, self.dtype)
        return Rows(positions, table_starts, page_ids, cos, sin)

    def run(self, blocks: BlockRange, hidden: Tensor, rows: Rows, attention: RowsAttention) -> None:
        """Put rows through some of the blocks, in place; see `FusedBlock.run`."""
        for index in range(blocks.start - self.range.start, blocks.end - self.range.start):
            self.blocks[index].run(hidden, rows, self.pages[index], attention)
