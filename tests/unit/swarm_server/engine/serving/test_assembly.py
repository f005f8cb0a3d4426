"""Batches and what comes back from them."""

import pytest
import torch

from swarm_protocol.rows import Rows
from swarm_server.engine.serving.assembly import Piece, assemble, split_outputs
from swarm_server.engine.serving.inputs import InputChunk


def piece(
    *positions: int, num_rows: int = 1, adapter: str | None = None, only_last: bool = False
) -> Piece:
    """Return a piece of chunks of two tokens that begin at these positions."""
    chunks = [InputChunk(at, Rows.of(torch.full((num_rows, 2, 3), float(at)))) for at in positions]
    return Piece(chunks, [[[row]] for row in range(num_rows)], adapter, only_last)


def test_every_row_of_every_chunk_is_a_segment() -> None:
    """With its positions and its own tables."""
    batch = assemble([piece(4, 6), piece(0, num_rows=2)], torch.float64)

    segments = batch.segments
    assert [(s.start, s.end, s.position) for s in segments] == [
        (0, 2, 4),
        (2, 4, 6),
        (4, 6, 0),
        (6, 8, 0),
    ]
    assert [s.tables for s in segments] == [[[0]], [[0]], [[0]], [[1]]]
    assert batch.hidden.dtype == torch.float64


def test_outputs_are_those_of_the_last_chunk() -> None:
    """Of each row; chunks before it were computed again for the sake of their pages."""
    pieces = [piece(4, 6), piece(0, num_rows=2)]

    split = split_outputs(torch.arange(8.0).view(8, 1).expand(8, 3).contiguous(), pieces)

    firsts = [None if outputs is None else outputs.hidden[:, :, 0].tolist() for outputs in split]
    assert firsts == [[[2, 3]], [[4, 5], [6, 7]]]


def test_outputs_may_be_wanted_of_the_last_token_of_each_row() -> None:
    """A runner may leave the others out, or not; all of a neighbour's are there."""
    pieces = [piece(4, 6, num_rows=2, only_last=True), piece(0), piece(0, only_last=True)]

    wanted = assemble(pieces, torch.float32).wanted

    assert wanted is not None
    assert wanted.tolist() == [5, 7, 8, 9, 11]
    outputs = torch.arange(12.0).view(12, 1).expand(12, 3).contiguous()
    firsts = [
        [None if own is None else own.hidden[:, :, 0].tolist() for own in split]
        for split in (
            split_outputs(outputs, pieces),
            split_outputs(outputs[wanted], pieces, are_left_out=True),
        )
    ]
    assert firsts == [[[[4, 5], [6, 7]], [[8, 9]], [[10, 11]]], [[[5], [7]], [[8, 9]], [[11]]]]


def test_a_batch_of_which_all_is_wanted_names_no_tokens() -> None:
    """As nearly every one."""
    assert assemble([piece(0), piece(2)], torch.float32).wanted is None


def test_pieces_of_one_adapter_make_one_range() -> None:
    """Those of the base make none."""
    names = [None, "a", "a", "b"]

    batch = assemble([piece(0, adapter=name) for name in names], torch.float32)

    ranges = [(each.start, each.end, each.name) for each in batch.adapters]
    assert ranges == [(2, 6, "a"), (6, 8, "b")]


def test_outputs_that_are_not_finite_spoil_no_others() -> None:
    """Sums that overflow do not count: each number is looked at."""
    pieces = [piece(0), piece(0, num_rows=2), piece(0)]
    outputs = torch.full((8, 3), 3e38)
    outputs[3, 1] = torch.inf

    split = split_outputs(outputs, pieces)

    assert [None if each is None else tuple(each.hidden.shape) for each in split] == [
        (1, 2, 3),
        None,
        (1, 2, 3),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_decodes_are_split_and_looked_at_like_others(dtype: torch.dtype) -> None:
    """One token of each session; large ones are finite all the same."""
    pieces = [Piece([InputChunk(3, Rows.of(torch.ones(1, 1, 3)))], [[[0]]], None) for _ in range(3)]
    outputs = torch.full((3, 3), 6e4, dtype=dtype)
    outputs[1, 2] = torch.nan

    split = split_outputs(outputs, pieces)

    assert [None if each is None else tuple(each.hidden.shape) for each in split] == [
        (1, 1, 3),
        None,
        (1, 1, 3),
    ]
