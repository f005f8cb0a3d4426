"""What callers are told of an error."""

import pytest

from app.errors import INTERNAL_CODE, RateLimitedError, describe_error
from swarm_protocol.errors import DeadlineExceededError, PeerRefusedError
from swarm_protocol.identifiers import PeerId


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
