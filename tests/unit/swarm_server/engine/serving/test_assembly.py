"""Batches and what comes back from them."""

import pytest
import torch

from swarm_server.engine.serving.assembly import Piece, assemble, join_rows, split_outputs
from swarm_server.engine.serving.inputs import InputChunk


def piece(*positions: int, num_rows: int = 1, adapter: str | None = None) -> Piece:
    """Return a piece of chunks of two tokens that begin at these positions."""
    chunks = [InputChunk(at, torch.full((num_rows, 2, 3), float(at))) for at in positions]
    return Piece(chunks, [[[row]] for row in range(num_rows)], adapter)


def test_every_row_of_every_chunk_is_a_segment() -> None:
    """With its positions and its own tables; the last chunk's place is known."""
    assembled = assemble([piece(4, 6), piece(0, num_rows=2)], torch.float64)

    segments = assembled.batch.segments
    assert [(s.start, s.end, s.position) for s in segments] == [
        (0, 2, 4),
        (2, 4, 6),
        (4, 6, 0),
        (6, 8, 0),
    ]
    assert [s.tables for s in segments] == [[[0]], [[0]], [[0]], [[1]]]
    assert list(assembled.places) == [range(2, 4), range(4, 8)]
    assert assembled.batch.hidden.dtype == torch.float64


def test_pieces_of_one_adapter_make_one_range() -> None:
    """Those of the base make none."""
    names = [None, "a", "a", "b"]

    assembled = assemble([piece(0, adapter=name) for name in names], torch.float32)

    ranges = [(each.start, each.end, each.name) for each in assembled.batch.adapters]
    assert ranges == [(2, 6, "a"), (6, 8, "b")]


def test_outputs_that_are_not_finite_spoil_no_others() -> None:
    """Sums that overflow do not count: each number is looked at."""
    pieces = [piece(0), piece(0, num_rows=2), piece(0)]
    assembled = assemble(pieces, torch.float32)
    outputs = torch.full((8, 3), 3e38)
    outputs[3, 1] = torch.inf

    split = split_outputs(outputs, pieces, assembled.places)

    assert [None if each is None else tuple(each.shape) for each in split] == [
        (1, 2, 3),
        None,
        (1, 2, 3),
    ]


@pytest.mark.parametrize("sizes", [[1], [1, 2], [2, 2], [1, 1, 3]])
def test_rows_are_joined_in_order(sizes: list[int]) -> None:
    """All tokens of the first part, row by row, then those of the next."""
    parts = [torch.rand(2, size, 3) for size in sizes]

    joined = join_rows(parts)

    assert joined.tolist() == [token for part in parts for row in part for token in row.tolist()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_decodes_are_split_and_looked_at_like_others(dtype: torch.dtype) -> None:
    """One token of each session; large ones are finite all the same."""
    pieces = [Piece([InputChunk(3, torch.ones(1, 1, 3))], [[[0]]], None) for _ in range(3)]
    assembled = assemble(pieces, dtype)
    outputs = torch.full((3, 3), 6e4, dtype=dtype)
    outputs[1, 2] = torch.nan

    split = split_outputs(outputs, pieces, assembled.places)

    assert [None if each is None else tuple(each.shape) for each in split] == [
        (1, 1, 3),
        None,
        (1, 1, 3),
    ]
