"""The likeliest tokens of each row, in an order that does not depend on how many are wanted.

On a CPU this is numpy's work, whose selection and sorting are vectorised: for 32 rows of 32,000,
1,024 candidates take 3 ms instead of 14, and a whole order 19 instead of 91.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def likeliest_token(scores: Tensor) -> Tensor:
    """Return the token with the largest score of each row, int64 `[num_rows]`."""
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmax(axis=-1))
    return scores.argmax(dim=-1)


def likeliest_tokens(scaled: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Return scores and ids, `[num_rows, num_tokens]`, by falling score, then rising id.

    Of tokens as likely as the last one, any may be missing.

    Args:
        scaled: float32 `[num_rows, vocab_size]`, none above 0.
    """
    select = _select_by_numpy if scaled.device.type == "cpu" else _select_by_torch
    return select(scaled, num_tokens)


def _select_by_torch(scaled: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    if num_tokens == scaled.shape[1]:
        scores, token_ids = scaled.sort(dim=-1, descending=True, stable=True)
        return scores, token_ids
    _, token_ids = scaled.topk(num_tokens, dim=-1, sorted=False)
    token_ids = token_ids.sort(dim=-1).values
    scores, order = scaled.gather(1, token_ids).sort(dim=-1, descending=True, stable=True)
    return scores, token_ids.gather(1, order)


def _select_by_numpy(scaled: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Sort numbers of 64 bits that are a score and its token.

    The bits of floats that are not negative are in the order of their values.
    """
    scores: NDArray[np.float32] = scaled.numpy()
    if num_tokens < scores.shape[1]:
        first = scores.shape[1] - num_tokens
        ids = np.argpartition(scores, first, axis=-1)[:, first:]
        scores = np.take_along_axis(scores, ids, axis=-1)
    else:
        ids = np.arange(num_tokens)
    distances = np.abs(scores)  # from the likeliest one, which is at 0; turns -0 into 0
    keys = (distances.view(np.int32).astype(np.int64) << 32) | ids
    keys.sort(axis=-1)
    nearest = (keys >> 32).astype(np.int32).view(np.float32)
    return torch.from_numpy(-nearest), torch.from_numpy(keys & 0xFFFFFFFF)
