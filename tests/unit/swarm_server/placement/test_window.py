"""Choosing blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.identifiers import BlockRange
from swarm_server.placement import AnnouncedSpan, choose_window, throughput_per_block


@pytest.mark.parametrize(
    ("throughputs", "num_blocks", "start"),
    [
        ([0, 0, 0, 0], 2, 0),
        ([5, 5, 0, 0], 2, 2),
        ([5, 0, 5, 0, 0], 2, 3),
        ([3, 1, 9, 1, 2], 2, 3),
        ([1, 2, 1], 3, 0),
    ],
)
def test_the_weakest_window_is_taken(throughputs: list[float], num_blocks: int, start: int) -> None:
    """Lexicographically smallest when sorted; of equals the first."""
    assert choose_window(throughputs, num_blocks) == BlockRange(start, start + num_blocks)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.data())
def test_no_window_is_weaker_than_the_chosen_one(
    throughputs: list[int], data: st.DataObject
) -> None:
    """By the definition, and none of the earlier ones is equal."""
    num_blocks = data.draw(st.integers(1, len(throughputs)))

    chosen = choose_window(throughputs, num_blocks)

    windows = [
        sorted(throughputs[start : start + num_blocks])
        for start in range(len(throughputs) - num_blocks + 1)
    ]
    assert all(windows[chosen.start] < window for window in windows[: chosen.start])
    assert windows[chosen.start] == min(windows)


@given(st.integers(1, 6), st.integers(1, 12))
def test_servers_that_join_one_after_another_leave_no_gap(span: int, num_blocks: int) -> None:
    """As many equal servers as fill the model cover every block of it."""
    span = min(span, num_blocks)
    spans: list[AnnouncedSpan] = []
    for index in range(-(-num_blocks // span)):
        throughputs = throughput_per_block(spans, num_blocks)
        blocks = choose_window(throughputs, span)
        spans.append(AnnouncedSpan(f"peer-{index}", blocks, 1.0))

    if num_blocks % span == 0:
        assert throughput_per_block(spans, num_blocks) == [1.0] * num_blocks


def test_throughputs_of_servers_add_up() -> None:
    """Over each block; a span that reaches beyond the model counts inside it."""
    spans = [
        AnnouncedSpan("a", BlockRange(0, 2), 1.5),
        AnnouncedSpan("b", BlockRange(1, 9), 2.0),
    ]

    assert throughput_per_block(spans, 3) == [1.5, 3.5, 2.0]
