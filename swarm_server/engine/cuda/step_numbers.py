"""A batch as numbers for kernels: where each row stands, and where its pages are listed.

segments    A (positions 70, 71)    B (position 3)
positions   70  71  3               one for each row, which is a token of the batch
starts      0   0   2               where the row's page table begins
page ids    5   9   7               the tables, one after the other
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from swarm_server.engine.segments import Segment

Numbers = NDArray[np.int32]

_NO_TILES: Final[Numbers] = np.empty((0, 4), np.int32)

MAX_LONE_ROWS: Final = 128
"""With more rows, a step does not get faster by letting each go alone."""

_MAX_LONE_ROWS_OF_SEGMENT: Final = 8
"""With more, the pages of a sequence would be read too often."""


@dataclass(frozen=True, slots=True)
class StepNumbers:
    """Numbers of one step, for spans whose blocks all share one group of pages; int32.

    `positions` and `table_starts` are [num_rows], `page_ids` [num_pages]. `tiles` [num_tiles, 4]
    are runs of rows that attend together: first row, number of rows, position of the first, start
    of the table. Without tiles every row attends alone.
    """

    positions: Numbers
    table_starts: Numbers
    page_ids: Numbers
    tiles: Numbers


def number_step(segments: Sequence[Segment], tile_rows: int) -> StepNumbers:
    """Return the numbers of a step; a tile has up to `tile_rows` rows of one segment."""
    num_rows = segments[-1].end
    if num_rows == len(segments) <= MAX_LONE_ROWS:
        return _number_decodes(segments)
    tables = [segment.tables[0] for segment in segments]
    lengths = np.array([len(table) for table in tables], np.int32)
    ends = lengths.cumsum(dtype=np.int32)
    starts = ends - lengths
    counts = np.array([segment.num_tokens for segment in segments])
    shifts = np.array([each.position - each.start for each in segments], np.int32)
    goes_alone = num_rows <= MAX_LONE_ROWS and counts.max() <= _MAX_LONE_ROWS_OF_SEGMENT
    return StepNumbers(
        positions=np.arange(num_rows, dtype=np.int32) + np.repeat(shifts, counts),
        table_starts=np.repeat(starts, counts),
        page_ids=np.fromiter(chain.from_iterable(tables), np.int32, int(ends[-1])),
        tiles=_cut([] if goes_alone else segments, starts, tile_rows),
    )


def _number_decodes(segments: Sequence[Segment]) -> StepNumbers:
    """Return the numbers of segments of one row each, all made in one operation."""
    num_rows = len(segments)
    tables = [segment.tables[0] for segment in segments]
    *starts, num_pages = accumulate(map(len, tables), initial=0)
    positions = [segment.position for segment in segments]
    numbers = np.fromiter(chain(positions, starts, *tables), np.int32, 2 * num_rows + num_pages)
    return StepNumbers(
        positions=numbers[:num_rows],
        table_starts=numbers[num_rows : 2 * num_rows],
        page_ids=numbers[2 * num_rows :],
        tiles=_NO_TILES,
    )


def _cut(segments: Sequence[Segment], starts: Numbers, tile_rows: int) -> Numbers:
    tiles = [
        (row, min(tile_rows, segment.end - row), segment.position + row - segment.start, start)
        for segment, start in zip(segments, starts.tolist(), strict=False)
        for row in range(segment.start, segment.end, tile_rows)
    ]
    tiles.sort(key=lambda tile: -tile[2])  # the dearest go first, so that none is left over
    return np.array(tiles, np.int32).reshape(-1, 4)
