"""For which sizes of steps graphs are captured. A step goes into the next larger one."""

from dataclasses import dataclass
from typing import Final

from swarm_server.engine.cuda.step_numbers import MAX_LONE_ROWS, StepNumbers

MAX_PAGES: Final = 1 << 18
"""Entries of all page tables of a step together."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Room for rows, and for tiles; see `StepNumbers`. Without tiles every row attends alone."""

    num_rows: int
    num_tiles: int = 0


LONE_ROW: Final = Bucket(1)


def _with_tiles(num_rows: int) -> Bucket:
    """Return a bucket for chunks among up to 64 rows of others."""
    return Bucket(num_rows, 64 + num_rows // 8)


LONE_BUCKETS: Final = tuple(
    Bucket(num_rows) for num_rows in (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, MAX_LONE_ROWS)
)
TILED_BUCKETS: Final = tuple(
    _with_tiles(num_rows)
    for num_rows in (16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024)
)
"""Still larger steps keep a GPU busy while the CPU starts one kernel after the other."""

LARGEST: Final = TILED_BUCKETS[-1]


def choose_bucket(numbers: StepNumbers) -> Bucket | None:
    """Return the smallest bucket that a step fits into; None for a step too large for all."""
    if len(numbers.page_ids) > MAX_PAGES:
        return None
    num_rows, num_tiles = len(numbers.positions), len(numbers.tiles)
    buckets = TILED_BUCKETS if num_tiles else LONE_BUCKETS
    for bucket in buckets:
        if num_rows <= bucket.num_rows and num_tiles <= bucket.num_tiles:
            return bucket
    return None
