"""What is done to logits before a token is chosen: biases, penalties, masks.

Each is one operation over the entries of all rows that have it, found by their places in the flat
tensor `row * vocab_size + token`. Rows without any are not touched.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding

from swarm_client.generation.sampler_row import SamplerRow


def adjust_scores(scores: Tensor, rows: Sequence[SamplerRow]) -> None:
    """Do to the logits what the rows want, in transformers' order and in place.

    Args:
        scores: float32 `[num_rows, vocab_size]`, contiguous.
    """
    _add_biases(scores, rows)
    _penalize(scores, rows)
    _mask(scores, rows)


def _add_biases(scores: Tensor, rows: Sequence[SamplerRow]) -> None:
    places: list[NDArray[np.int64]] = []
    values: list[NDArray[np.float32]] = []
    for index, row in enumerate(rows):
        if row.biases is not None:
            places.append(row.biases.ids + index * scores.shape[1])
            values.append(row.biases.values)
    if places:
        place = _join(places, scores.device)
        scores.view(-1).index_add_(0, place, _join(values, scores.device))


def _penalize(scores: Tensor, rows: Sequence[SamplerRow]) -> None:
    """Push down what a row has already.

    The repetition penalty divides positive logits and multiplies negative ones, once per token
    (Keskar et al., CTRL, 2019). The others follow OpenAI's published formula, in which `c[j]` is
    the number of token `j` in the output:
    `mu[j] - c[j] * frequency_penalty - (c[j] > 0) * presence_penalty`.
    """
    places: list[NDArray[np.int64]] = []
    counts: list[NDArray[np.float32]] = []
    factors: list[tuple[float, float, float]] = []
    for index, row in enumerate(rows):
        if row.history is not None:
            row.history.update()
            places.append(row.history.ids + index * scores.shape[1])
            counts.append(row.history.counts)
            wanted = row.parameters
            factors.append(
                (wanted.repetition_penalty, wanted.frequency_penalty, wanted.presence_penalty)
            )
    if not places:
        return
    sizes = [len(place) for place in places]
    repetition, frequency, presence = (
        torch.from_numpy(np.repeat(np.array(column, np.float32), sizes)).to(scores.device)
        for column in zip(*factors, strict=True)
    )
    count = _join(counts, scores.device)
    flat, place = scores.view(-1), _join(places, scores.device)
    old = flat.index_select(0, place)
    new = torch.where(old < 0, old * repetition, old / repetition)
    flat.index_copy_(0, place, new - count * frequency - (count > 0) * presence)


def _mask(scores: Tensor, rows: Sequence[SamplerRow]) -> None:
    """Set tokens that masks forbid to minus infinity."""
    masked = [(index, row.mask) for index, row in enumerate(rows) if row.mask is not None]
    if not masked:
        return
    words = torch.stack([mask for _, mask in masked]).view(torch.uint8).to(scores.device)
    # Eight tokens at a time: looked up, minus infinities cost a tenth of what unpacked bits do.
    forbids = embedding(words.int(), _minus_infinities(scores.device)).flatten(1)
    index = torch.tensor([index for index, _ in masked], device=scores.device)
    scores.index_add_(0, index, forbids[:, : scores.shape[1]])


@cache
def _minus_infinities(device: torch.device) -> Tensor:
    """What a byte of a mask adds to its eight tokens: float32 `[256, 8]`, 0 where a bit is set."""
    bits = torch.arange(256).unsqueeze(1) >> torch.arange(8) & 1
    return torch.zeros(256, 8).masked_fill_(bits == 0, -torch.inf).to(device)


def _join(
    arrays: Sequence[NDArray[np.int64] | NDArray[np.float32]], device: torch.device
) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays)).to(device)
