"""Equal prefixes have equal names, and no others have."""

from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.dialect import HASH_BYTES, hash_prefixes

IDS = st.lists(st.integers(0, 3), max_size=12)


def test_only_whole_pages_are_named() -> None:
    """Ten tokens are three pages of three."""
    hashes = hash_prefixes(range(10), 3, b"")

    assert [len(name) for name in hashes] == [HASH_BYTES] * 3


def test_names_never_change() -> None:
    """Clients and servers of any release agree on them."""
    (name,) = hash_prefixes([1, 2], 2, b"salt")

    assert name.hex() == "45db9c1f7d9a5fc36fe59fe7c9f8ffb8"


@given(one=IDS, other=IDS, page_size=st.integers(1, 4))
def test_names_are_equal_as_far_as_the_tokens_are(
    one: list[int], other: list[int], page_size: int
) -> None:
    """Up to the first page that differs, and never after it."""
    names = zip(
        hash_prefixes(one, page_size, b""), hash_prefixes(other, page_size, b""), strict=False
    )
    for count, (left, right) in enumerate(names, start=1):
        end = count * page_size
        assert (left == right) == (one[:end] == other[:end])


def test_another_salt_gives_other_names() -> None:
    """So tenants share nothing."""
    assert hash_prefixes([1], 1, b"one") != hash_prefixes([1], 1, b"two")
