"""Hidden states within a tensor that holds those of many."""

import pytest
import torch
from torch import Tensor

from swarm_protocol.rows import Rows, copy_tokens, join_rows

MEMORY = torch.arange(28.0).view(7, 4)


def test_tokens_lie_one_row_after_the_other() -> None:
    """From where they start; they are a view."""
    rows = Rows(MEMORY, 1, num_rows=2, num_tokens=3)

    assert torch.equal(rows.hidden, torch.arange(4.0, 28.0).view(2, 3, 4))
    assert rows.hidden.data_ptr() == MEMORY[1].data_ptr()


@pytest.mark.parametrize("hidden", [MEMORY[None], MEMORY[:, None, ::2], torch.empty(2, 0, 4)])
def test_any_tensor_is_rows(hidden: Tensor) -> None:
    """Strided ones and those without tokens as well."""
    assert torch.equal(Rows.of(hidden).hidden, hidden)


@pytest.mark.parametrize("num_rows", [1, 2])
def test_some_tokens_of_each_row_are_rows(num_rows: int) -> None:
    """A part in the middle."""
    rows = Rows(MEMORY, 1, num_rows, num_tokens=3)

    assert torch.equal(rows.cut(1, 3).hidden, rows.hidden[:, 1:3])


@pytest.mark.parametrize("sizes", [[1], [1, 1, 1], [2, 2], [1, 1, 3], [1, 0, 2], [0, 0]])
def test_rows_are_joined_in_order(sizes: list[int]) -> None:
    """All tokens of the first part, row by row, then those of the next."""
    parts = [torch.rand(2, size, 3) for size in sizes]

    joined = join_rows([Rows.of(part) for part in parts])

    assert joined.shape == (2 * sum(sizes), 3)
    assert joined.tolist() == [token for part in parts for row in part for token in row.tolist()]


def test_rows_that_lie_side_by_side_are_joined_without_a_copy() -> None:
    """Though they begin and end within the memory."""
    joined = join_rows([Rows(MEMORY, 1, 2, 2), Rows(MEMORY, 5, 1, 1)])

    assert joined.data_ptr() == MEMORY[1].data_ptr()
    assert torch.equal(joined, MEMORY[1:6])


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 2], [0, 1, 1], [2, 1, 0]])
def test_rows_in_another_order_are_joined_as_they_come(order: list[int]) -> None:
    """Nothing is taken from memory that is no part's."""
    joined = join_rows([Rows(MEMORY, index, 1, 1) for index in order])

    assert torch.equal(joined, MEMORY[order])


@pytest.mark.parametrize("num_rows", [1, 2])
def test_tokens_are_copied_behind_those_of_their_row(num_rows: int) -> None:
    """Nothing of the memory that they were part of is kept."""
    parts = [Rows(MEMORY, 0, num_rows, 2), Rows(MEMORY, 4, num_rows, 1)]

    copied = copy_tokens(parts)

    assert torch.equal(copied.hidden, torch.cat([part.hidden for part in parts], 1))
    assert copied.memory.untyped_storage().nbytes() == 3 * num_rows * MEMORY[0].nbytes
