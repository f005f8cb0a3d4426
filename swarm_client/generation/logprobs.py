"""Log-probabilities of chosen tokens, and of the likeliest others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_LEAST: Final = -9999.0
"""Stands for all that is less: JSON has no infinities."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely the model itself found a token: before penalties, biases, masks and filters.

    Attributes:
        logprob: natural logarithm of its probability.
        top: the likeliest tokens and theirs, likeliest first; as many as were asked for.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def token_logprobs(
    logits: Tensor, token_ids: Sequence[int], num_top: Sequence[int]
) -> list[TokenLogprob]:
    """Return the log-probabilities of one token of each row, and of the likeliest ones.

    Args:
        logits: float32 `[num_rows, vocab_size]`, as the model gave them.
        token_ids: the token of each row.
        num_top: how many others to name in each row.
    """
    total = logits.logsumexp(dim=-1, keepdim=True)
    chosen = torch.tensor(token_ids, device=logits.device).unsqueeze(1)
    own = (logits.gather(1, chosen) - total).clamp_(min=_LEAST).squeeze(1).tolist()
    largest = logits.topk(min(max(num_top), logits.shape[1]), dim=-1)
    values = (largest.values - total).clamp_(min=_LEAST).tolist()
    return [
        TokenLogprob(token_id, logprob, tuple(zip(ids[:num], logprobs[:num], strict=True)))
        for token_id, logprob, num, ids, logprobs in zip(
            token_ids, own, num_top, largest.indices.tolist(), values, strict=True
        )
    ]
