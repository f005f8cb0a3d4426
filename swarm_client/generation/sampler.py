"""Logits to tokens, for many rows at once; distributions equal to transformers' processors.

Order: bias, penalties, mask, temperature, top-k, top-p, min-p. A row's token depends on its own
logits, parameters and random numbers, never on its neighbours; and what a row does not ask for
costs nothing.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from swarm_client.generation.adjustments import adjust_scores
from swarm_client.generation.candidates import likeliest_token
from swarm_client.generation.draws import draw_from_all
from swarm_client.generation.filters import FilterColumns, draw_filtered
from swarm_client.generation.sampler_row import SamplerRow

_Chooser: TypeAlias = Callable[[Tensor, Sequence[SamplerRow]], list[int]]


def sample_tokens(logits: Tensor, rows: Sequence[SamplerRow]) -> list[int]:
    """Choose the next token of every row.

    Args:
        logits: float32 `[num_rows, vocab_size]`, finite; left as it is.
        rows: as many, greedy and sampled ones in any order.
    """
    special = [i for i, row in enumerate(rows) if row.parameters.do_sample or row.is_adjusted]
    return _split(logits, rows, special, _choose)


def _choose(logits: Tensor, rows: Sequence[SamplerRow]) -> list[int]:
    """Choose for rows each of which samples or is adjusted; `logits` are used up."""
    adjust_scores(logits, rows)
    sampled = [index for index, row in enumerate(rows) if row.parameters.do_sample]
    if len(sampled) == len(rows):
        return _sample(logits, rows)
    return _split(logits, rows, sampled, _sample)


def _split(
    scores: Tensor, rows: Sequence[SamplerRow], special: list[int], choose: _Chooser
) -> list[int]:
    """Let `choose` have a copy of the special rows; the others take their likeliest tokens."""
    if not special:
        return _likeliest(scores)
    if len(special) == len(rows):
        return choose(scores.clone(memory_format=torch.contiguous_format), rows)
    tokens = _likeliest(scores)
    chosen = choose(scores[special], [rows[index] for index in special])
    for index, token in zip(special, chosen, strict=True):
        tokens[index] = token
    return tokens


def _likeliest(scores: Tensor) -> list[int]:
    return _to_list(likeliest_token(scores))


def _sample(scores: Tensor, rows: Sequence[SamplerRow]) -> list[int]:
    """Draw one token for each row of `scores`, `[num_rows, vocab_size]`, which are used up.

    One copy is enough for all that is done to them: new memory of this size comes from the
    system, page by page, and costs several times what the arithmetic does.
    """
    columns = FilterColumns.of([row.parameters for row in rows], scores.shape[1], scores.device)
    uniforms = torch.tensor(
        [row.random.random() for row in rows], dtype=torch.float64, device=scores.device
    )
    # In this scale the likeliest token is at 0, and no temperature overflows.
    scaled = scores.sub_(scores.amax(dim=-1, keepdim=True)).div_(columns.temperature)
    tokens = torch.empty(len(rows), dtype=torch.int64, device=scores.device)
    pending = (~columns.keeps_all).nonzero().squeeze(1)
    num_candidates = columns.of_rows(pending).num_candidates
    while len(pending):
        drawn = draw_filtered(
            _take(scaled, pending), columns.of_rows(pending), uniforms[pending], num_candidates
        )
        tokens[pending] = drawn.tokens
        pending = pending[~drawn.is_settled]
        num_candidates = columns.more_candidates(num_candidates)
    free = columns.keeps_all.nonzero().squeeze(1)
    if len(free):
        tokens[free] = draw_from_all(_take(scaled, free).exp_(), uniforms[free])
    return _to_list(tokens)


def _take(scores: Tensor, indexes: Tensor) -> Tensor:
    """Return some rows, without a copy if they are all."""
    return scores if len(indexes) == len(scores) else scores[indexes]


def _to_list(tokens: Tensor) -> list[int]:
    values: list[int] = tokens.tolist()
    return values
