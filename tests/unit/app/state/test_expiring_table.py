"""The bounded dictionary whose entries expire."""

from hypothesis import given
from hypothesis import strategies as st

from app.state.expiring_table import ExpiringTable


def test_an_entry_is_gone_at_its_time_and_not_before() -> None:
    """Expiry is the first moment at which the entry is not there."""
    table = ExpiringTable[str, int](max_entries=9)

    table.put("a", 1, expires_at=10, now=0)

    assert table.get("a", now=9.99) == 1
    assert table.get("a", now=10) is None


def test_a_replaced_entry_lives_by_its_new_time() -> None:
    """Putting again forgets the old expiry, be it later or earlier."""
    table = ExpiringTable[str, int](max_entries=9)
    table.put("a", 1, expires_at=10, now=0)
    table.put("b", 1, expires_at=30, now=0)

    table.put("a", 2, expires_at=20, now=0)
    table.put("b", 2, expires_at=10, now=0)

    assert table.count(now=15) == 1
    assert table.get("a", now=15) == 2


def test_a_full_table_forgets_what_would_expire_first() -> None:
    """The bound holds, and the newest entry may be the one that goes."""
    table = ExpiringTable[str, int](max_entries=2)

    for key, expires_at in (("a", 20), ("b", 10), ("c", 30), ("d", 5)):
        table.put(key, 0, expires_at=expires_at, now=0)

    assert [key for key in "abcd" if table.get(key, now=0) is not None] == ["a", "c"]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "remove", "wait"]), st.integers(0, 5), st.integers(0, 9)),
        max_size=300,
    )
)
def test_it_equals_a_plain_dictionary_and_stays_bounded(steps: list[tuple[str, int, int]]) -> None:
    """With room for all keys, contents match a model, and no dead item piles up."""
    table, model, now = ExpiringTable[int, int](max_entries=6), dict[int, int](), 0
    for step, key, amount in steps:
        if step == "put":
            table.put(key, amount, expires_at=now + amount, now=now)
            model[key] = now + amount
        elif step == "remove":
            table.remove(key)
            model.pop(key, None)
        else:
            now += amount
        table.check_integrity()
        live = {key for key, expires_at in model.items() if expires_at > now}
        assert {key for key in range(6) if table.get(key, now=now) is not None} == live
    assert table.count(now=now) == len(live if steps else ())


def test_putting_and_removing_for_ever_takes_no_memory() -> None:
    """Items of removed entries are dropped long before their time."""
    table = ExpiringTable[int, int](max_entries=9)

    for key in range(1000):
        table.put(key, 0, expires_at=1e9, now=0)
        table.remove(key)
        table.check_integrity()

    assert table.count(now=0) == 0
