"""Ends of sessions on the wire."""

import pytest
from hypothesis import given

from swarm_protocol.dialect import (
    CancelFrame,
    CloseFrame,
    FailedFrame,
    Failure,
    decode_reply,
    decode_request,
    encode_cancel,
    encode_close,
    encode_failed,
)
from swarm_protocol.dialect.frame import FrameKind, build_frame
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.serializer import pack
from tests.unit.swarm_protocol.dialect.strategies import failure_lists, id_lists


@given(failures=failure_lists)
def test_failures_are_read_back(failures: tuple[Failure, ...]) -> None:
    """With their facts."""
    assert decode_reply(encode_failed(failures)) == FailedFrame(failures)


@given(ids=id_lists)
def test_ids_are_read_back(ids: tuple[int, ...]) -> None:
    """Of sessions that end, and of sessions whose step nobody wants."""
    assert decode_request(encode_close(ids)) == CloseFrame(ids)
    assert decode_request(encode_cancel(ids)) == CancelFrame(ids)


def test_a_long_message_is_cut() -> None:
    """What the receiver would refuse is not sent."""
    frame = decode_reply(encode_failed([Failure(1, "step_failed", "x" * 5000, True)]))

    assert isinstance(frame, FailedFrame)
    assert len(frame.failures[0].message) == 1000


@pytest.mark.parametrize("body", [b"", b"1234", b"123456789"])
def test_the_header_counts_the_ids(body: bytes) -> None:
    """Two ids are 8 bytes."""
    with pytest.raises(MalformedMessageError, match="2 session ids"):
        decode_request(build_frame(FrameKind.CLOSE, 2, [body]))


@pytest.mark.parametrize("facts", [7, {"room": [1]}, {7: 1}, {str(n): n for n in range(33)}])
def test_facts_are_few_and_plain(facts: object) -> None:
    """Names, and values that are neither lists nor maps."""
    failure = {"id": 1, "code": "x", "message": "", "retryable": True, "facts": facts}

    with pytest.raises(MalformedMessageError, match="facts"):
        decode_reply(build_frame(FrameKind.FAILED, 1, [pack([failure])]))
