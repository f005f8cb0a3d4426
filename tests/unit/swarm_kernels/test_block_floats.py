"""Numbers as integers that share a power of two."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swarm_kernels.block_floats import from_block_floats, to_block_floats

BLOCK_SIZE = 128
MAX_SUM = 1 << 18
"""Times integers of 13 bits, sums are below 2^31."""


def integers_and_scales(blocks: Tensor) -> tuple[Tensor, Tensor]:
    integers = blocks[..., :-1].contiguous().view(torch.int16).long()
    return integers, blocks[..., -1:].contiguous().view(torch.float32)


@settings(max_examples=100, deadline=None)
@given(
    numbers=st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=BLOCK_SIZE
    )
)
def test_any_finite_block_keeps_its_bounds(numbers: list[float]) -> None:
    """The sum of sizes is one that cannot overflow, and each number errs by half a scale."""
    weight = torch.zeros(1, BLOCK_SIZE)
    weight[0, : len(numbers)] = torch.tensor(numbers).clamp(-3e38, 3e38)
    weight = weight.bfloat16()

    blocks = to_block_floats(weight, BLOCK_SIZE)

    integers, scales = integers_and_scales(blocks)
    assert integers.abs().sum() <= MAX_SUM
    exact = weight.double().view_as(integers)
    assert ((integers * scales.double() - exact).abs() <= scales / 2).all()


def test_numbers_come_back_but_for_the_smallest() -> None:
    """A scale is a power of two, so those above an eighth of the usual size are multiples of it."""
    weight = torch.randn(300, 4 * BLOCK_SIZE, generator=torch.Generator().manual_seed(0)).bfloat16()

    unpacked = from_block_floats(to_block_floats(weight, BLOCK_SIZE))

    large = weight.abs() > 0.13
    assert torch.equal(unpacked[large], weight[large])
    assert (unpacked == weight).float().mean() > 0.95


@pytest.mark.parametrize("spoiled", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_spoils_its_block_only(spoiled: float) -> None:
    """Nothing that is multiplied with it may look like an answer."""
    weight = torch.ones(2, 2 * BLOCK_SIZE).bfloat16()
    weight[1, 3] = spoiled

    unpacked = from_block_floats(to_block_floats(weight, BLOCK_SIZE))

    assert unpacked[1, :BLOCK_SIZE].isnan().all()
    assert torch.equal(unpacked[0], weight[0])
    assert torch.equal(unpacked[1, BLOCK_SIZE:], weight[1, BLOCK_SIZE:])
