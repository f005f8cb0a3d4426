"""The table from error codes to what callers see."""

import importlib
from collections.abc import Iterator

import pytest

from app.errors import INTERNAL_CODE, RateLimitedError, describe_error
from swarm_protocol.errors import DeadlineExceededError, PeerRefusedError, SwarmError
from swarm_protocol.identifiers import PeerId

# Raised at start-up or by the library alone, or bases that are never raised themselves.
_NOT_FOR_CALLERS = {
    "swarm_error",
    "state_error",
    "bad_settings",
    "bad_checkpoint",
    "unsupported_model",
    "invalid_state_url",
    "rollback_unsupported",
    "length_not_given",
    "model_closed",
    "unsupported_padding",
    "request_too_large",
    "server_busy",
    "bad_trained_parts",
    "trained_parts_mismatch",
    "disk_full",
    "journal_exists",
    "journal_leased",
    "head_failed",
}


def _subclasses(parent: type[SwarmError]) -> Iterator[type[SwarmError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _subclasses(child)


def test_every_code_a_caller_can_meet_is_in_the_table() -> None:
    """A new error of our packages must be given a status."""
    for name in ("app.inference.errors", "app.state.errors", "swarm_client.errors"):
        importlib.import_module(name)
    codes = {
        error.code
        for error in _subclasses(SwarmError)
        if error.__module__.split(".")[0] in ("app", "swarm_client", "swarm_protocol")
    }

    unknown = {code for code in codes if describe_error(_with_code(code)).code == INTERNAL_CODE}

    assert unknown == _NOT_FOR_CALLERS & codes


def _with_code(code: str) -> SwarmError:
    probe = SwarmError("probe")
    vars(probe)["code"] = code
    return probe


def test_text_of_a_peer_never_reaches_a_caller() -> None:
    """It may hold anything."""
    reply = describe_error(PeerRefusedError(PeerId("QmX"), "Traceback: /root/secret.py"))

    assert "secret" not in reply.message
    assert "QmX" not in reply.message
    assert reply.http_status == 502


@pytest.mark.parametrize("error", [RuntimeError("/root/secret.py"), KeyError("secret")])
def test_foreign_errors_are_internal(error: Exception) -> None:
    """Their text is not for callers either."""
    reply = describe_error(error)

    assert (reply.code, reply.http_status) == (INTERNAL_CODE, 500)
    assert "secret" not in reply.message


def test_time_to_wait_is_whole_seconds_rounded_up() -> None:
    """A caller who waits that long is not refused again."""
    reply = describe_error(RateLimitedError(2.1, {"x-ratelimit-limit-tokens": "5"}))

    assert reply.headers == {"retry-after": "3", "x-ratelimit-limit-tokens": "5"}
    assert reply.http_status == 429


def test_deadline_is_a_gateway_timeout() -> None:
    """The swarm was too slow, not the caller."""
    assert describe_error(DeadlineExceededError("step of QmX")).http_status == 504
