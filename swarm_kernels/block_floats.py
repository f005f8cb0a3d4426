"""Numbers as integers that share a power of two: block floating point.

The weights of a block are multiples of one power of two, by integers of 16 bits whose sizes add up
to at most 2^18: times integers of 13 bits, their sum fits 32 bits. Bfloat16 numbers have 8
significant bits, so of 128 weights all are exact but those below a twentieth of the usual size,
which err by up to half that power of two, less than 2^-11 of the usual size.
"""

from typing import Final

import torch
from torch import Tensor

_MAX_INTEGER: Final = (1 << 15) - 1
_MAX_SUM: Final = 1 << 18

_SLICE_OUTPUTS: Final = 1024
"""So many are converted at once, for their sizes are held as float32, twice."""


def to_block_floats(weight: Tensor, block_size: int) -> Tensor:
    """Return a weight as integers and scales: int32 `[num_outputs, blocks, block_size / 2 + 1]`.

    Two integers of 16 bits are a number of the result; the last of each block has the bits of its
    scale in float32. A block with a number that is not finite has a scale that is none.

    Args:
        weight: `[num_outputs, num_inputs]`, contiguous; `block_size` divides its inputs.
        block_size: an even number.
    """
    slices = torch.split(weight.view(len(weight), -1, block_size), _SLICE_OUTPUTS)
    return torch.cat([_slice_to_block_floats(blocks.float()) for blocks in slices])


def _slice_to_block_floats(blocks: Tensor) -> Tensor:
    sizes = blocks.abs()
    # Each of a block may be rounded up by a half.
    least = torch.maximum(
        (sizes / (_MAX_SUM - blocks.shape[-1] // 2)).sum(-1, keepdim=True),
        sizes.amax(-1, keepdim=True) / _MAX_INTEGER,
    )
    scales = torch.ldexp(torch.ones_like(least), torch.frexp(least).exponent.clamp(min=-126))
    integers = (blocks / scales).round().nan_to_num(0, 0, 0).short()
    scales = torch.where(least.isfinite(), scales, torch.nan)
    return torch.cat([integers.contiguous().view(torch.int32), scales.view(torch.int32)], -1)


def from_block_floats(blocks: Tensor) -> Tensor:
    """Return the weight that `to_block_floats` was given, in bfloat16, but for what it rounded."""
    integers = blocks[..., :-1].contiguous().view(torch.int16)
    scales = blocks[..., -1:].contiguous().view(torch.float32)
    return (integers * scales).bfloat16().flatten(-2)
