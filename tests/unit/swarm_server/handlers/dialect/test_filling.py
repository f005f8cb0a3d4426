"""Outputs that share a frame."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from swarm_server.handlers.dialect.filling import fill_frames


@dataclass(frozen=True)
class Part:
    size: int


@given(sizes=st.lists(st.integers(1, 12), max_size=20), limit=st.integers(1, 12))
def test_frames_hold_everything_in_order_and_are_as_full_as_they_can(
    sizes: list[int], limit: int
) -> None:
    """Over the limit only where one part is; and no part would have fitted the frame before."""
    runs = list(fill_frames([Part(size) for size in sizes], limit))

    totals = [sum(part.size for part in run) for run in runs]
    assert [part.size for run in runs for part in run] == sizes
    assert all(total <= limit or len(run) == 1 for total, run in zip(totals, runs, strict=True))
    assert all(total + run[0].size > limit for total, run in zip(totals, runs[1:], strict=False))
