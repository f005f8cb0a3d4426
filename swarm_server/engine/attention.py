"""Causal attention of a chunk over what a session has in its KV cache, for grouped KV heads."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from swarm_server.engine.adaptable_linear import AdaptableLinear, BlockAdapter
from swarm_server.engine.alibi import Alibi
from swarm_server.engine.chunk_positions import ChunkPositions
from swarm_server.engine.norms import Norm
from swarm_server.engine.rope import Rope, rotate, rotate_in_place


@dataclass(frozen=True, slots=True)
class ChunkContext:
    """What a block is told in one step: where the chunk stands, which all blocks share, and the
    adapter's part for this block.
    """

    positions: ChunkPositions
    adapter: BlockAdapter | None = None


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


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Heads of a block, and how they know positions: by `rope` or by `alibi`.

    With a `window` a token sees itself and the `window - 1` tokens before. `scale` multiplies
    the scores; None is `head_dim ** -0.5`.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope: Rope | None = None
    alibi: Alibi | None = None
    window: int | None = None
    scale: float | None = None


class Attention:
    """Self-attention of one block. Stateless but for its weights."""

    def __init__(
        self,
        shape: AttentionShape,
        qkv: AdaptableLinear,
        out: AdaptableLinear,
        *,
        qk_norm: Norm | None = None,
    ) -> None:
        """Take the parts.

        Args:
            shape: heads and positions.
            qkv: one product for all query heads, then all key heads, then all value heads.
            out: applied to the heads' outputs, [..., num_heads * head_dim].
            qk_norm: over [..., num_heads + num_kv_heads, head_dim], before rotation; only with a
                rope.
        """
        self._shape = shape
        self._qkv = qkv
        self._out = out
        self._qk_norm = qk_norm

    def run(self, hidden: Tensor, kv: KVWriter, kv_index: int, context: ChunkContext) -> Tensor:
        """Return what is to be added to the hidden states; see `engine.span.Block.run`."""
        shape, positions = self._shape, context.positions
        batch, num_tokens, _ = hidden.shape
        heads = self._qkv(hidden, context.adapter).view(batch, num_tokens, -1, shape.head_dim)
        heads = self._with_positions(heads, positions)
        keys, values = kv.write(kv_index, heads[:, :, shape.num_heads :])
        mask = (
            positions.mask(shape.window)
            if shape.alibi is None
            else positions.alibi_mask(shape.alibi)
        )
        if shape.window is not None:
            first = positions.first_key(shape.window)
            keys, values = keys[:, :, first:], values[:, :, first:]
        queries = heads[:, :, : shape.num_heads]
        return self._out(attend(queries, keys, values, mask, scale=shape.scale), context.adapter)

    def _with_positions(self, heads: Tensor, positions: ChunkPositions) -> Tensor:
        """Norm and rotate queries and keys; overwrites `heads` where autograd does not watch."""
        rope, num_rotated = self._shape.rope, self._shape.num_heads + self._shape.num_kv_heads
        if rope is None:
            return heads
        cos, sin = positions.rotary(rope)
        queries_keys = heads[:, :, :num_rotated]
        if self._qk_norm is None and not torch.is_grad_enabled():
            rotate_in_place(queries_keys, cos, sin)
            return heads
        if self._qk_norm is not None:
            queries_keys = self._qk_norm(queries_keys)
        return torch.cat((rotate(queries_keys, cos, sin), heads[:, :, num_rotated:]), 2)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    *,
    scale: float | None = None,
) -> Tensor:
    """Return attention outputs.

    Args:
        queries: [batch, num_tokens, num_heads, head_dim], rotated.
        keys: [batch, num_kv_heads, num_keys, head_dim], as are `values`.
        values: see `keys`.
        mask: from `ChunkPositions`.
        scale: of the scores; None is `head_dim ** -0.5`.

    Returns:
        [batch, num_tokens, num_heads * head_dim].
    """
    batch, num_tokens, num_heads, head_dim = queries.shape
    num_kv_heads = keys.shape[1]
    if num_tokens == 1:
        # The heads of a group stand as tokens that see everything: no repeated keys, and torch's
        # bfloat16 kernel is several times faster so than with enable_gqa.
        grouped = queries.reshape(batch, num_kv_heads, -1, head_dim)
        if mask is not None:  # one row per head: ALiBi
            mask = mask.view(num_kv_heads, -1, mask.shape[-1])
        outputs = scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=scale)
        return outputs.reshape(batch, 1, -1)
    outputs = scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys,
        values,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=num_kv_heads != num_heads,
    )
    return outputs.transpose(1, 2).reshape(batch, num_tokens, -1)
