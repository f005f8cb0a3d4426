"""Which rows of a batch may share a session."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swarm_client.errors import PaddingError
from swarm_client.generation.padding import group_rows, join_groups


def groups_of(mask: list[list[int]], *, may_trail: bool = False) -> list[tuple[list[int], int]]:
    groups = group_rows(torch.tensor(mask), len(mask), may_trail=may_trail)
    return [(group.rows.tolist(), group.num_padding) for group in groups]


def test_rows_with_as_much_padding_are_a_group_longest_rows_first() -> None:
    """However they are mixed."""
    assert groups_of([[0, 0, 1], [1, 1, 1], [0, 0, 1], [0, 1, 1]]) == [
        ([1], 0),
        ([3], 1),
        ([0, 2], 2),
    ]


def test_no_mask_is_one_group() -> None:
    """Nothing is padded."""
    (group,) = group_rows(None, 3)

    assert (group.rows.tolist(), group.num_padding) == ([0, 1, 2], 0)


def test_trailing_padding_counts_as_tokens_where_it_may() -> None:
    """Causal attention never looks at it."""
    assert groups_of([[1, 1, 0], [0, 1, 0]], may_trail=True) == [([0], 0), ([1], 1)]


@pytest.mark.parametrize(
    ("mask", "may_trail"),
    [
        ([[1, 0, 1]], False),
        ([[1, 0, 1]], True),
        ([[1, 1, 0]], False),
        ([[0, 0, 0], [1, 1, 1]], False),
        ([[0, 0, 0], [1, 1, 1]], True),
    ],
)
def test_other_padding_is_refused(mask: list[list[int]], may_trail: bool) -> None:
    """Servers would take it for text."""
    with pytest.raises(PaddingError):
        groups_of(mask, may_trail=may_trail)


@pytest.mark.parametrize("shape", [(2, 3), (1, 1, 3)])
def test_a_mask_of_another_batch_is_refused(shape: tuple[int, ...]) -> None:
    """The message names both."""
    with pytest.raises(PaddingError, match="a mask of 1 rows"):
        group_rows(torch.ones(shape), 1)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_groups_join_to_the_batch_they_were_taken_from(padding: list[int]) -> None:
    """In the order of its rows, with zeros where padding was."""
    num_padding = torch.tensor(padding)
    mask = torch.arange(6) >= num_padding[:, None]
    hidden = torch.randn(len(padding), 6, 2) * mask[..., None]

    groups = group_rows(mask.long(), len(padding))
    outputs = [hidden[group.rows, group.num_padding :] for group in groups]

    assert join_groups(outputs, groups, 6).equal(hidden)
