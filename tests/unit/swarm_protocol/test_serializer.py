import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.serializer import MAX_DEPTH, pack, unpack

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(("value", "data"), [((), "d44090"), ((1, 2), "c70340920102")])
def test_tuples_have_petals_bytes(value: object, data: str) -> None:
    """A tuple is ext 0x40 around an array (PETALS_PROTOCOL §1.2)."""
    assert pack(value).hex() == data


@given(VALUES)
def test_what_is_packed_unpacks_equal(value: object) -> None:
    """Tuples stay tuples and lists stay lists, at every depth."""
    unpacked = unpack(pack(value))

    assert unpacked == value
    assert repr(unpacked) == repr(value)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_value_or_a_typed_error(data: bytes) -> None:
    """No input may raise anything but our own error."""
    with contextlib.suppress(MalformedMessageError):
        unpack(data)


def test_nesting_is_limited() -> None:
    """A peer cannot exhaust the stack with nested tuples."""
    value: object = ()
    for _ in range(MAX_DEPTH + 2):
        value = (value,)

    with pytest.raises(MalformedMessageError, match="nested deeper"):
        unpack(pack(value))


def test_size_is_limited() -> None:
    """The caller says how much it is ready to unpack."""
    with pytest.raises(MalformedMessageError, match="at most 10 bytes"):
        unpack(pack("x" * 20), max_bytes=10)


def test_unknown_extension_is_refused() -> None:
    """Only tuples and tensor descriptors are part of the dialect."""
    with pytest.raises(MalformedMessageError, match="extension 0x07"):
        unpack(bytes.fromhex("d40700"))


def test_objects_without_a_form_are_our_own_mistake() -> None:
    """Packing is called with our own values only."""
    with pytest.raises(TypeError, match="no form in msgpack"):
        pack({1, 2})
