"""Attention of torch's own: of chunks over keys and values that lie side by side."""

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend_chunk(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    *,
    scale: float,
) -> Tensor:
    """Return attention outputs.

    Args:
        queries: [batch, num_tokens, num_heads, head_dim], rotated.
        keys: [batch, num_kv_heads, num_keys, head_dim], as are `values`.
        values: see `keys`.
        mask: from `ChunkMasks`.
        scale: of the scores.

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
