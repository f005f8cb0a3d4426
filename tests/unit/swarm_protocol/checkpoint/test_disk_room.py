from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.checkpoint.disk_room import StoredFile, choose_evictions, make_room
from swarm_protocol.errors import DiskFullError


def stored(name: str, size_bytes: int, used_at: float) -> StoredFile:
    return StoredFile(Path(name), size_bytes, used_at)


OLD, MIDDLE, NEW = stored("old", 5, 1.0), stored("middle", 5, 2.0), stored("new", 5, 3.0)


def test_least_recently_used_goes_first_and_no_more_than_needed() -> None:
    """A file that was used lately is likely to be used again."""
    assert choose_evictions([NEW, OLD, MIDDLE], (), excess_bytes=6) == [OLD, MIDDLE]


@pytest.mark.parametrize("excess_bytes", [0, -7])
def test_nothing_goes_while_there_is_room(excess_bytes: int) -> None:
    """A limit is no reason to tidy up."""
    assert choose_evictions([OLD, NEW], (), excess_bytes=excess_bytes) == []


def test_kept_files_stay_even_when_old() -> None:
    """What this process uses it may read again."""
    assert choose_evictions([OLD, NEW], {OLD.path}, excess_bytes=5) == [NEW]


def test_too_little_to_delete_is_an_error_that_says_how_much_is_missing() -> None:
    """Deleting all the same would help nobody."""
    with pytest.raises(DiskFullError) as raised:
        choose_evictions([OLD, NEW], {OLD.path}, excess_bytes=8)

    assert raised.value.missing_bytes == 3


def test_a_file_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    """Even where nothing is stored yet."""
    with pytest.raises(DiskFullError):
        make_room(tmp_path / "none", 2000, (), max_disk_bytes=1000)


def test_a_file_larger_than_the_disk_is_refused(tmp_path: Path) -> None:
    """The reserve stays free, limit or not."""
    with pytest.raises(DiskFullError):
        make_room(tmp_path, 1 << 60, (), max_disk_bytes=None)


@given(
    sizes=st.lists(st.integers(0, 9), max_size=8),
    kept=st.sets(st.integers(0, 7)),
    excess_bytes=st.integers(-5, 60),
)
def test_enough_is_freed_without_a_spare_file_or_a_kept_one(
    sizes: list[int], kept: set[int], excess_bytes: int
) -> None:
    """Any storage, any wish: enough, minimal from the end, or an error."""
    files = [stored(str(index), size, float(index)) for index, size in enumerate(sizes)]
    kept_paths = {Path(str(index)) for index in kept}
    free = [file.size_bytes for file in files if file.path not in kept_paths]
    if sum(free) < excess_bytes:
        with pytest.raises(DiskFullError):
            choose_evictions(files, kept_paths, excess_bytes=excess_bytes)
        return

    chosen = choose_evictions(files, kept_paths, excess_bytes=excess_bytes)

    freed = [file.size_bytes for file in chosen]
    assert sum(freed) >= excess_bytes
    assert sum(freed[:-1]) < max(excess_bytes, 1) or not chosen
    assert not kept_paths & {file.path for file in chosen}
