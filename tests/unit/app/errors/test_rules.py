"""The table from error codes to what callers see."""

from app.errors.rules import INTERNAL, RULES
from scripts.errors_page import caller_errors, errors_page
from swarm_protocol.errors import SwarmError

# Raised at start-up or by the library alone, or bases that are never raised themselves.
_NOT_FOR_CALLERS = {
    "swarm_error",
    "state_error",
    "bad_settings",
    "key_store_error",
    "invalid_state_url",
    "rollback_unsupported",
    "length_not_given",
    "unsupported_padding",
    "request_too_large",
    "server_busy",
    "bad_trained_parts",
    "trained_parts_mismatch",
    "disk_full",
    "journal_exists",
    "journal_leased",
    "head_failed",
    "no_device",
}


def test_every_code_a_caller_can_meet_is_in_the_table() -> None:
    """A new error of our packages must be given a status."""
    codes = {error.code for error in caller_errors()}

    assert codes - set(RULES) == _NOT_FOR_CALLERS & codes


def test_every_rule_belongs_to_an_error_and_says_what_to_do() -> None:
    """A rule without a class is left over, and one without advice helps nobody."""
    codes = {error.code for error in caller_errors()}

    assert set(RULES) <= codes
    assert all(rule.advice.endswith(".") for rule in (*RULES.values(), INTERNAL))


def test_codes_are_told_apart() -> None:
    """Two unrelated errors with one code would be one error to programs."""
    owners = [error for error in caller_errors() if error is not SwarmError]

    assert len({error.code for error in owners}) == len(owners)


def test_statuses_and_close_codes_are_such_as_may_be_sent() -> None:
    """1004 to 1006 and 1015 must never be on the wire (RFC 6455 §7.4.1)."""
    for rule in (*RULES.values(), INTERNAL):
        assert 400 <= rule.http_status <= 599
        assert rule.close_code in {1003, *range(1007, 1015)}


def test_reference_page_has_a_row_per_code() -> None:
    """Whoever meets a code finds it there."""
    page = errors_page("generated")

    assert all(f"\n| `{code}` |" in page for code in (*RULES, "internal_error"))
