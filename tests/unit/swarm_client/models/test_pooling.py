"""Rules of picking the token that stands for a text."""

import pytest
import torch

from swarm_client.models.pooling import last_token_indices


def test_the_last_token_that_is_no_padding_stands_for_the_row() -> None:
    """Wherever the padding is, and whatever a padding token in mid-text may mean."""
    rows = torch.tensor([[5, 6, 0, 0], [0, 0, 5, 6], [5, 0, 6, 0], [5, 6, 7, 8]])

    assert last_token_indices(rows, 0).tolist() == [1, 3, 2, 3]


def test_a_row_of_nothing_but_padding_is_its_first_token() -> None:
    """As in transformers: there is no better answer."""
    assert last_token_indices(torch.zeros(1, 3, dtype=torch.int64), 0).tolist() == [0]


def test_without_a_padding_token_one_row_ends_at_its_end() -> None:
    """And several rows are refused: they might be of unequal length."""
    assert last_token_indices(torch.tensor([[5, 6, 0]]), None).tolist() == [2]
    with pytest.raises(ValueError, match="pad_token_id"):
        last_token_indices(torch.ones(2, 3, dtype=torch.int64), None)
