"""Attention of sequences that are there as a whole; keys and values are kept nowhere."""

from torch import Tensor

from swarm_server.engine.block_context import Scoring
from swarm_server.engine.chunk_masks import ChunkMasks
from swarm_server.engine.positions import PositionTables
from swarm_server.engine.torch_attention import attend_chunk


class WholeSequences:
    """A differentiable `BlockAttention` for any block: of a batch of sequences of one length."""

    def __init__(self, num_tokens: int, tables: PositionTables) -> None:
        """Take the length of each sequence."""
        self._masks = ChunkMasks(0, num_tokens, tables)

    def attend(self, queries: Tensor, keys_values: Tensor, scoring: Scoring) -> Tensor:
        """See `BlockAttention.attend`; tokens are those of the first sequence, then the next …"""
        sizes = (-1, self._masks.num_tokens)  # [batch, num_tokens, …]
        both = keys_values.view(*sizes, *keys_values.shape[1:]).transpose(1, 2)
        keys, values = both.chunk(2, 1)
        mask = self._masks.mask(scoring)
        batched = queries.view(*sizes, *queries.shape[1:])
        return attend_chunk(batched, keys, values, mask, scale=scoring.scale).flatten(0, 1)
