"""Who counts as one caller."""

import pytest

from app.callers import Caller, address_id_of
from app.errors import OutOfScopeError
from app.keys.grants import KeyScopes


def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    """A caller usually has a whole /64."""
    assert address_id_of("2001:db8::1") == address_id_of("2001:db8::ffff")
    assert address_id_of("2001:db8::1") != address_id_of("2001:db8:1::1")
    assert address_id_of("10.0.0.1") != address_id_of("10.0.0.2")
    assert address_id_of(None) == address_id_of(None)


def test_callers_with_keys_own_by_key_and_others_by_address() -> None:
    """The same key from two addresses is one owner."""
    assert Caller("k", "a").owner == Caller("k", "b").owner
    assert Caller(None, "a").owner != Caller(None, "b").owner


def test_key_for_some_models_opens_no_other() -> None:
    """A key that names none is for all."""
    caller = Caller("k", "a", KeyScopes(models=("demo",)))

    caller.check_model("demo")
    Caller("k", "a").check_model("large")
    with pytest.raises(OutOfScopeError, match="may not use the model large"):
        caller.check_model("large")


def test_an_ipv4_address_is_the_same_in_the_form_of_ipv6() -> None:
    """All of them lie in one /64: their callers would share one caller's limits."""
    assert address_id_of("::ffff:192.0.2.1") == address_id_of("192.0.2.1")
    assert address_id_of("::ffff:192.0.2.1") != address_id_of("::ffff:192.0.2.2")
