"""Batches of unequal prompts: which rows have as many tokens and may share a session. Pure.

Servers know no attention masks, so padding never reaches them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from swarm_client.errors import PaddingError


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows of a batch that begin with the same number of padding tokens.

    Attributes:
        rows: int64 `[num_rows]`, ascending.
        num_padding: columns to skip in each of them.
    """

    rows: Tensor
    num_padding: int


def group_rows(
    attention_mask: Tensor | None, batch_size: int, *, may_trail: bool = False
) -> tuple[RowGroup, ...]:
    """Return the groups of a batch, those with the longest rows first.

    Args:
        attention_mask: `[batch, num_tokens]`, 1 for tokens and 0 for padding; None is all ones.
        batch_size: rows of the batch.
        may_trail: padding on the right is no harm, because nothing will be appended. It counts
            as tokens.

    Raises:
        PaddingError: it is no such mask, has padding where there must be none, or an empty row.
    """
    if attention_mask is None:
        return (RowGroup(torch.arange(batch_size), 0),)
    if attention_mask.dim() != 2 or len(attention_mask) != batch_size:
        raise PaddingError(f"a mask of {batch_size} rows", f"one of {list(attention_mask.shape)}")
    is_token = attention_mask.cpu().bool()
    has_begun = is_token.cumsum(dim=1) > 0
    if not bool(has_begun[:, -1].all()):
        raise PaddingError("a token in every row", "a row of padding alone")
    may_be_token = is_token.flip(1).cumsum(dim=1).flip(1) > 0 if may_trail else True
    if bool((has_begun & may_be_token & ~is_token).any()):
        raise PaddingError("padding before the tokens of a row", "padding after one of them")
    num_padding = (~has_begun).sum(dim=1)
    counts: list[int] = num_padding.tolist()
    return tuple(
        RowGroup((num_padding == count).nonzero().squeeze(1), count)
        for count in sorted(set(counts))
    )


def join_groups(outputs: Sequence[Tensor], groups: Sequence[RowGroup], num_tokens: int) -> Tensor:
    """Put rows back in their order, `[batch, num_tokens, hidden_size]`, zeros for padding.

    Args:
        outputs: of each group, `[num_rows, at most num_tokens, hidden_size]`.
        groups: as many.
        num_tokens: of the longest rows.
    """
    if len(groups) == 1 and outputs[0].shape[1] == num_tokens:
        return outputs[0]
    padded = [pad(output, (0, 0, num_tokens - output.shape[1], 0)) for output in outputs]
    order = torch.cat([group.rows for group in groups]).argsort()
    return torch.cat(padded)[order.to(outputs[0].device)]
