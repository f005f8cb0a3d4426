"""A batch as numbers for kernels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from swarm_server.engine.cuda.buckets import LARGEST, LONE_BUCKETS, choose_bucket
from swarm_server.engine.cuda.step_numbers import Numbers, number_step
from swarm_server.engine.segments import Segment


def segments_of(*sequences: tuple[int, int]) -> list[Segment]:
    """Return segments of sequences with a first position and some rows; pages hold 16 tokens."""
    segments, row, page = [], 0, 0
    for position, num_rows in sequences:
        table = list(range(page, page - (-(position + num_rows) // 16)))
        segments.append(Segment(row, row + num_rows, position, (table,)))
        row, page = row + num_rows, page + len(table)
    return segments


def tiled(*sequences: tuple[int, int]) -> Numbers:
    return number_step(segments_of(*sequences), 16).tiles


def test_every_row_knows_its_position_and_where_its_table_begins() -> None:
    """Tables lie one after the other, rows of one sequence share one."""
    segments = [Segment(0, 2, 70, ([5, 9],)), Segment(2, 3, 3, ([7],))]

    numbers = number_step(segments, 16)

    assert numbers.positions.tolist() == [70, 71, 3]
    assert numbers.table_starts.tolist() == [0, 0, 2]
    assert numbers.page_ids.tolist() == [5, 9, 7]
    assert {numbers.positions.dtype, numbers.table_starts.dtype} == {np.dtype(np.int32)}


@given(st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_rows_that_all_decode_are_numbered_as_beside_a_longer_step(positions: list[int]) -> None:
    """Though they go a shorter way."""
    decodes = [(position, 1) for position in positions]

    alone = number_step(segments_of(*decodes), 16)
    beside = number_step(segments_of(*decodes, (0, 2)), 16)

    assert alone.positions.tolist() == beside.positions.tolist()[:-2]
    assert alone.table_starts.tolist() == beside.table_starts.tolist()[:-2]
    assert alone.page_ids.tolist() == beside.page_ids.tolist()[:-1]
    assert {alone.positions.dtype, alone.page_ids.dtype} == {np.dtype(np.int32)}


def test_few_rows_of_a_sequence_attend_alone() -> None:
    """So do the rows of a step that verifies some tokens."""
    assert len(tiled((100, 1), (50, 8))) == 0


def test_a_chunk_attends_in_tiles_and_takes_the_others_along() -> None:
    """The last tile of a chunk is shorter; those with the longest past come first."""
    tiles = tiled((100, 1), (10, 20))

    assert tiles.tolist() == [[0, 1, 100, 0], [17, 4, 26, 7], [1, 16, 10, 7]]


def test_many_rows_attend_in_tiles() -> None:
    """A step of more rows than any bucket has room for is none of single rows."""
    assert len(tiled(*[(5, 1)] * 129)) == 129


def test_a_step_goes_into_the_next_larger_bucket() -> None:
    """One that is too large for all gets none."""
    lone = number_step(segments_of(*[(5, 1)] * 17), 16)
    chunk = number_step(segments_of((0, 100), (5, 1)), 16)
    large = number_step(segments_of((0, LARGEST.num_rows + 1)), 16)

    assert choose_bucket(lone) in LONE_BUCKETS
    assert [
        bucket.num_rows for bucket in (choose_bucket(lone), choose_bucket(chunk)) if bucket
    ] == [
        24,
        128,
    ]
    assert choose_bucket(large) is None


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 150)), min_size=1, max_size=40))
def test_tiles_cover_every_row_once(sequences: list[tuple[int, int]]) -> None:
    """Whatever a batch is made of."""
    segments = segments_of(*sequences)
    numbers = number_step(segments, 16)

    covered = [
        row for first, count, _, _ in numbers.tiles.tolist() for row in range(first, first + count)
    ]

    assert sorted(covered) in ([], list(range(segments[-1].end)))
    for first, count, position, start in numbers.tiles.tolist():
        assert numbers.positions[first : first + count].tolist() == list(
            range(position, position + count)
        )
        assert numbers.table_starts[first] == start
