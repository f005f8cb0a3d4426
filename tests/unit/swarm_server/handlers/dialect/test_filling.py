"""Outputs that share a frame."""

from hypothesis import given
from hypothesis import strategies as st

from swarm_server.handlers.dialect.filling import fill_frames


@given(sizes=st.lists(st.integers(1, 12), max_size=20), limit=st.integers(1, 12))
def test_frames_hold_everything_in_order_and_are_as_full_as_they_can(
    sizes: list[int], limit: int
) -> None:
    """Over the limit only where one part is; and no part would have fitted the frame before."""
    runs = [sizes[run] for run in fill_frames(sizes, limit)]

    totals = [sum(run) for run in runs]
    assert [size for run in runs for size in run] == sizes
    assert all(total <= limit or len(run) == 1 for total, run in zip(totals, runs, strict=True))
    assert all(total + run[0] > limit for total, run in zip(totals, runs[1:], strict=False))
