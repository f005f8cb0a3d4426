"""Causal attention of a chunk over what a session has in its KV cache, for grouped KV heads."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from swarm_server.engine.adaptable_linear import BlockAdapter


@dataclass(frozen=True, slots=True)
class ChunkContext:
    """What blocks are told in one step: rotary rows of the chunk, its mask, and the adapter.

    `mask` is bool [num_tokens, position + num_tokens], True where a token may look; None for one
    token, which sees everything, and for a chunk at position 0, which is plainly causal.
    `adapter` holds what the step's adapter adds to this block; all else is the same for all blocks.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    adapter: BlockAdapter | None = None


def causal_mask(position: int, num_tokens: int, device: str) -> Tensor | None:
    """Return the mask of a chunk of `num_tokens` that begins at `position`; see `ChunkContext`."""
    if num_tokens == 1 or position == 0:
        return None
    shape = (num_tokens, position + num_tokens)
    return torch.ones(shape, dtype=torch.bool, device=device).tril(position)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return attention outputs.

    Args:
        queries: [batch, num_tokens, num_heads, head_dim], rotated.
        keys: [batch, num_kv_heads, position + num_tokens, head_dim], as are `values`.
        values: see `keys`.
        mask: as in `ChunkContext`.

    Returns:
        [batch, num_tokens, num_heads * head_dim].
    """
    batch, num_tokens, num_heads, head_dim = queries.shape
    if num_tokens == 1:
        # The heads of a group stand as tokens that see everything: no repeated keys, and torch's
        # bfloat16 kernel is several times faster so than with enable_gqa.
        grouped = queries.reshape(batch, keys.shape[1], -1, head_dim)
        return scaled_dot_product_attention(grouped, keys, values).reshape(batch, 1, -1)
    outputs = scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys,
        values,
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=keys.shape[1] != num_heads,
    )
    return outputs.transpose(1, 2).reshape(batch, num_tokens, -1)
