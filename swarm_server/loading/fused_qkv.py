"""Queries, keys and values that a checkpoint keeps in one weight, group by group of heads."""

import torch
from torch import Tensor


def fused_qkv_order(num_heads: int, num_kv_heads: int, head_dim: int) -> Tensor:
    """Return where the outputs of a fused weight stand when all queries come first.

    The weight has, for each KV head: its query heads, its key head, its value head (BLOOM with one
    query head each, Falcon with several).

    Returns:
        int64 [(num_heads + 2 * num_kv_heads) * head_dim]: queries, then keys, then values.
    """
    group = num_heads // num_kv_heads
    num_outputs = (num_heads + 2 * num_kv_heads) * head_dim
    outputs = torch.arange(num_outputs).view(num_kv_heads, group + 2, head_dim)
    parts = torch.split(outputs, [group, 1, 1], dim=1)
    return torch.cat([part.flatten() for part in parts])
