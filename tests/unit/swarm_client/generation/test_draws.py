"""Draws are in proportion to the weights, and never of what has none."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swarm_client.generation.draws import draw, draw_from_all, total_mass

NUM_DRAWS = 500


def even_numbers() -> Tensor:
    """Evenly spaced: frequencies are then exact up to 1 / NUM_DRAWS."""
    return (torch.arange(NUM_DRAWS, dtype=torch.float64) + 0.5) / NUM_DRAWS


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    num_choices=st.sampled_from([1, 2, 127, 128, 129, 256, 1000]),
    share_of_zeros=st.sampled_from([0.0, 0.5, 0.99]),
)
def test_frequencies_equal_the_weights(seed: int, num_choices: int, share_of_zeros: float) -> None:
    """By blocks as well as one by one, whether or not the last block is full."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(num_choices, generator=generator)
    weights[torch.rand(num_choices, generator=generator) < share_of_zeros] = 0
    weights[seed % num_choices] = 0.5
    rows = weights.expand(NUM_DRAWS, -1)

    for choices in (
        draw(rows.double(), even_numbers()),
        draw_from_all(rows, even_numbers()),
    ):
        frequencies = torch.bincount(choices, minlength=num_choices).double() / NUM_DRAWS
        assert (
            frequencies - weights.double() / weights.double().sum()
        ).abs().max() <= 2 / NUM_DRAWS
        assert (weights[choices] > 0).all()


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
@pytest.mark.parametrize(("first", "last"), [(1, 2), (130, 700), (127, 128), (0, 999)])
def test_extreme_numbers_choose_the_first_and_the_last_that_has_weight(
    number: float, first: int, last: int
) -> None:
    """Rounding never leads to a weight of zero, in no block."""
    weights = torch.zeros(1, 1000)
    weights[0, first] = weights[0, last] = 0.1
    numbers = torch.tensor([number], dtype=torch.float64)

    expected = first if number == 0 else last
    assert draw_from_all(weights, numbers).item() == expected
    assert draw(weights.double(), numbers).item() == expected


def test_the_mass_of_a_row_does_not_depend_on_others() -> None:
    """To the last bit: it decides which tokens top-p keeps."""
    weights = torch.rand(40, 50_257, generator=torch.Generator().manual_seed(0))

    together = total_mass(weights)

    assert together.equal(torch.cat([total_mass(row.unsqueeze(0)) for row in weights]))
    torch.testing.assert_close(together, weights.double().sum(dim=-1, keepdim=True))
