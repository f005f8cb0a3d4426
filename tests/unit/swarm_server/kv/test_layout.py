"""Groups of blocks."""

from hypothesis import given
from hypothesis import strategies as st

from swarm_server.kv.layout import KVLayout


def test_a_plain_model_has_one_group() -> None:
    """With all blocks in order."""
    layout = KVLayout([None] * 4, page_size=64)

    assert (layout.num_groups, layout.group_size) == (1, 4)
    assert [layout.group_of(index) for index in range(4)] == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_five_local_blocks_and_a_global_one() -> None:
    """The groups of each window are of one size."""
    layout = KVLayout([512] * 5 + [None] + [512] * 5 + [None], page_size=16)

    assert (layout.num_groups, layout.group_size) == (6, 2)
    assert [layout.window_of(group) for group in range(6)] == [512] * 5 + [None]
    assert [layout.group_of(index) for index in (4, 5, 6, 11)] == [(2, 0), (5, 0), (2, 1), (5, 1)]


@given(st.lists(st.sampled_from([None, 4, 8]), min_size=1, max_size=30))
def test_every_block_has_its_own_place_in_a_group_of_its_window(
    windows: list[int | None],
) -> None:
    """And the groups are full."""
    layout = KVLayout(windows, page_size=64)

    places = [layout.group_of(index) for index in range(len(windows))]

    assert len(set(places)) == len(windows) == layout.num_groups * layout.group_size
    assert [layout.window_of(group) for group, _ in places] == windows
    assert all(place < layout.group_size for _, place in places)
