"""Random choices with given weights, one per row, from one number per row."""

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

_BLOCK_SIZE: Final = 128


def draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Return one index per row, with probability in proportion to its weight.

    Args:
        weights: float64 `[num_rows, num_choices]`, not negative, not all zero.
        uniforms: float64 `[num_rows]` in [0, 1); decides the row's choice.
    """
    cumulative = weights.cumsum(dim=-1)
    return _locate(cumulative, uniforms.unsqueeze(1) * cumulative[:, -1:]).squeeze(1)


def draw_from_all(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Do the same for very many choices, float32 `[num_rows, num_choices]`.

    A block of choices is drawn, then one of the block: sums of blocks are computed many at once,
    which running sums are not, and only they and one block per row become float64.
    """
    blocks = _blocks(weights)
    masses = _masses(blocks)
    cumulative = masses.cumsum(dim=-1)
    target = uniforms.unsqueeze(1) * cumulative[:, -1:]
    block = _locate(cumulative, target)
    rest = target - (cumulative - masses).gather(1, block)
    rows = torch.arange(len(weights), device=weights.device)
    inside = blocks[rows, block.squeeze(1)].double().cumsum(dim=-1)
    return (block * _BLOCK_SIZE + _locate(inside, rest.clamp(min=0))).squeeze(1)


def total_mass(weights: Tensor) -> Tensor:
    """Return the sum of each row, float64 `[num_rows, 1]`, which no other row has a part in.

    A plain sum over a row is split among threads if there are few rows.
    """
    return _masses(_blocks(weights)).sum(dim=-1, keepdim=True)


def _blocks(weights: Tensor) -> Tensor:
    """Return `[num_rows, num_blocks, _BLOCK_SIZE]`, zeros at the end."""
    missing = -weights.shape[1] % _BLOCK_SIZE
    whole = pad(weights, (0, missing)) if missing else weights
    return whole.view(len(weights), whole.shape[1] // _BLOCK_SIZE, _BLOCK_SIZE)


def _masses(blocks: Tensor) -> Tensor:
    return blocks.sum(dim=-1).double()


def _locate(cumulative: Tensor, target: Tensor) -> Tensor:
    """Return the index of each row whose stretch of the running sum holds `target`, `[rows, 1]`.

    Weights of zero make flat stretches; "right" steps over them to the next real choice, and a
    target that was rounded up to the whole mass, or over it, still means the last real one.
    """
    choice = torch.searchsorted(cumulative, target, right=True)
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())
    return torch.minimum(choice, last)
