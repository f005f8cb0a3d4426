"""Attention of a batch of sequences of one length, over what each of them has so far."""

from typing import Protocol

from torch import Tensor

from swarm_server.engine.block_context import Scoring
from swarm_server.engine.chunk_masks import ChunkMasks
from swarm_server.engine.torch_attention import attend_chunk


class KVWriter(Protocol):
    """Where a block leaves the keys and values of a chunk, and finds those of the prefix."""

    def write(self, block_index: int, keys_values: Tensor) -> tuple[Tensor, Tensor]:
        """Store a chunk's keys and values and return all up to its end.

        Args:
            block_index: counted from the first block of the session.
            keys_values: [batch, num_tokens, 2 * num_kv_heads, head_dim], keys first.

        Returns:
            Keys and values, each [batch, num_kv_heads, position + num_tokens, head_dim].
        """


class DenseAttention:
    """A `BlockAttention` for the block of index `kv_index`; differentiable where `kv` is."""

    def __init__(self, kv: KVWriter, kv_index: int, masks: ChunkMasks) -> None:
        self._kv = kv
        self._kv_index = kv_index
        self._masks = masks

    def attend(self, queries: Tensor, keys_values: Tensor, scoring: Scoring) -> Tensor:
        """See `BlockAttention.attend`; tokens are those of the first sequence, then the next …"""
        sizes = (-1, self._masks.num_tokens)  # [batch, num_tokens, …]
        chunk = keys_values.view(*sizes, *keys_values.shape[1:])
        keys, values = self._kv.write(self._kv_index, chunk)
        first = self._masks.first_key(scoring.window)
        outputs = attend_chunk(
            queries.view(*sizes, *queries.shape[1:]),
            keys[:, :, first:],
            values[:, :, first:],
            self._masks.mask(scoring),
            scale=scoring.scale,
        )
        return outputs.flatten(0, 1)
