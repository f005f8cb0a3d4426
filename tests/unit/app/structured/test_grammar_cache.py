from hypothesis import given
from hypothesis import strategies as st

from app.structured.grammar_cache import RecentlyUsed


def test_what_was_used_last_stays() -> None:
    """Reading is using."""
    table: RecentlyUsed[str, int] = RecentlyUsed(max_entries=2, max_bytes=100)
    table.put("a", 1, 1)
    table.put("b", 2, 1)

    table.get("a")
    table.put("c", 3, 1)

    assert (table.get("a"), table.get("b"), table.get("c")) == (1, None, 3)


def test_an_entry_over_the_bound_is_not_kept() -> None:
    """It would drop all others, and then itself."""
    table: RecentlyUsed[str, int] = RecentlyUsed(max_entries=2, max_bytes=10)
    table.put("a", 1, 10)

    table.put("b", 2, 11)

    assert (table.get("a"), table.get("b")) == (1, None)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=40))
def test_the_bounds_hold_whatever_is_put(puts: list[tuple[int, int]]) -> None:
    """The size is that of the entries that are there."""
    table: RecentlyUsed[int, int] = RecentlyUsed(max_entries=4, max_bytes=100)

    for key, size in puts:
        table.put(key, size, size)

    kept = [held for key in range(10) if (held := table.get(key)) is not None]
    assert sum(kept) == table.num_bytes <= 100
    assert len(kept) == len(table) <= 4
