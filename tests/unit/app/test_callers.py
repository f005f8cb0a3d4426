"""Who is calling."""

import pytest
from pydantic import SecretStr

from app.callers import Keyring
from app.errors import InvalidKeyError

KEYRING = Keyring([SecretStr("first-key"), SecretStr("second-key")])


@pytest.mark.parametrize("header", ["Bearer second-key", "bearer  second-key "])
def test_any_of_the_keys_is_enough(header: str) -> None:
    """The scheme's case does not matter."""
    assert KEYRING.identify(header, "10.0.0.1").key_id is not None


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer third-key", "Basic first-key", "first-key"]
)
def test_missing_or_wrong_key_is_refused(header: str | None) -> None:
    """Deny by default."""
    with pytest.raises(InvalidKeyError):
        KEYRING.identify(header, "10.0.0.1")


def test_nobody_needs_a_key_where_none_is_set() -> None:
    """Callers are then told apart by address."""
    caller = Keyring([]).identify(None, "10.0.0.1")

    assert caller.key_id is None
    assert caller.owner.startswith("address:")


def test_neither_key_nor_address_is_kept() -> None:
    """Only hashes go to the state store."""
    caller = KEYRING.identify("Bearer first-key", "10.0.0.1")

    assert "first-key" not in repr(caller)
    assert "10.0.0.1" not in repr(caller)


def test_one_network_of_ipv6_is_one_caller() -> None:
    """A /64 belongs to one customer, who could otherwise have 2**64 buckets."""
    keyring = Keyring([])
    one, other = (keyring.identify(None, f"2001:db8:0:{net}::{net}") for net in (1, 2))

    assert one == keyring.identify(None, "2001:db8:0:1::ffff")
    assert one != other
    assert keyring.identify(None, None) == keyring.identify(None, None)
