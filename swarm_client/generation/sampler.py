"""Logits to tokens, for many rows at once; distributions equal to transformers' processors.

Order: repetition penalty, temperature, top-k, top-p, min-p. A row's token depends on its own
logits, parameters and random numbers, never on its neighbours.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm_client.generation.filters import FilterColumns, draw, draw_filtered
from swarm_client.generation.parameters import SamplingParameters


@dataclass(slots=True)
class SamplerRow:
    """One row of logits, and how to choose from it.

    Attributes:
        token_ids: prompt and output so far; read only for the repetition penalty.
        random: of this request alone; one number is drawn per sampled token.
    """

    parameters: SamplingParameters
    token_ids: Sequence[int]
    random: random.Random


def sample_tokens(logits: Tensor, rows: Sequence[SamplerRow]) -> list[int]:
    """Choose the next token of every row.

    Args:
        logits: float32 `[num_rows, vocab_size]`, finite; left as it is.
        rows: as many, greedy and sampled ones in any order.
    """
    scores = _penalize(logits, rows)
    sampled = [index for index, row in enumerate(rows) if row.parameters.do_sample]
    if not sampled:
        return _to_list(scores.argmax(dim=-1))
    if len(sampled) == len(rows):
        return _sample(scores, rows)
    tokens = _to_list(scores.argmax(dim=-1))
    chosen = _sample(scores[sampled], [rows[index] for index in sampled])
    for index, token in zip(sampled, chosen, strict=True):
        tokens[index] = token
    return tokens


def _penalize(logits: Tensor, rows: Sequence[SamplerRow]) -> Tensor:
    """Push down the tokens that a row has already; copies only if a row asks for it."""
    places: list[Tensor] = []
    penalties: list[Tensor] = []
    for index, row in enumerate(rows):
        penalty = row.parameters.repetition_penalty
        if penalty != 1 and len(row.token_ids) > 0:
            place = torch.tensor(row.token_ids) + index * logits.shape[1]
            places.append(place)
            penalties.append(torch.full(place.shape, penalty, dtype=logits.dtype))
    if not places:
        return logits
    scores = logits.clone(memory_format=torch.contiguous_format)
    flat = scores.view(-1)
    place = torch.cat(places).to(flat.device)
    penalty_at = torch.cat(penalties).to(flat.device)
    old = flat[place]  # read before writing: a token that occurs twice is penalised once
    flat[place] = torch.where(old < 0, old * penalty_at, old / penalty_at)
    return scores


def _sample(scores: Tensor, rows: Sequence[SamplerRow]) -> list[int]:
    """Draw one token for each row of `scores`, `[num_rows, vocab_size]`."""
    columns = FilterColumns.of([row.parameters for row in rows], scores.shape[1], scores.device)
    uniforms = torch.tensor(
        [row.random.random() for row in rows], dtype=torch.float64, device=scores.device
    )
    # In this scale the likeliest token is at 0, and no temperature overflows.
    scaled = (scores - scores.amax(dim=-1, keepdim=True)) / columns.temperature
    tokens = torch.empty(len(rows), dtype=torch.int64, device=scores.device)
    free = columns.keeps_all.nonzero().squeeze(1)
    if len(free):
        tokens[free] = draw(scaled[free].double().exp(), uniforms[free])
    pending = (~columns.keeps_all).nonzero().squeeze(1)
    num_candidates = columns.of_rows(pending).num_candidates
    while len(pending):
        drawn = draw_filtered(
            scaled[pending], columns.of_rows(pending), uniforms[pending], num_candidates
        )
        tokens[pending] = drawn.tokens
        pending = pending[~drawn.is_settled]
        num_candidates = scores.shape[1]
    return _to_list(tokens)


def _to_list(tokens: Tensor) -> list[int]:
    values: list[int] = tokens.tolist()
    return values
