"""Attention as its definition says, in float32 over gathered keys: what every faster one equals."""

from collections.abc import Sequence

import torch
from torch import Tensor

from swarm_server.engine.block_context import Scoring
from swarm_server.engine.segments import Segment


def reference_attention(
    queries: Tensor, pages: Tensor, segments: Sequence[Segment], group: int, scoring: Scoring
) -> Tensor:
    """Return outputs of all tokens, float32 [num_tokens, num_heads * head_dim], one by one.

    Args:
        queries: [num_tokens, num_heads, head_dim].
        pages: of a block, with the tokens' own keys and values.
        segments: whose tokens they are.
        group: the block's layout group.
        scoring: of the block.
    """
    page_size, num_heads = pages.shape[1], queries.shape[1]
    repeats = num_heads // (pages.shape[2] // 2)
    outputs = []
    for segment in segments:
        table = segment.tables[group]
        for token in range(segment.start, segment.end):
            position = segment.position + token - segment.start
            first = 0 if scoring.window is None else max(0, position + 1 - scoring.window)
            seen = range(first, position + 1)
            slots = [pages[table[at // page_size], at % page_size].float() for at in seen]
            keys, values = torch.stack(slots, 1).repeat_interleave(repeats, 0).chunk(2)
            scores = torch.einsum("hd,hkd->hk", queries[token].float(), keys) * scoring.scale
            if scoring.alibi is not None:
                biases = scoring.alibi.slopes()[:, None] * torch.tensor(list(seen))
                scores = scores + biases * scoring.alibi.scale
            outputs.append(torch.einsum("hk,hkd->hd", scores.softmax(-1), values).flatten())
    return torch.stack(outputs)
