"""The header of 8 bytes."""

import pytest

from swarm_protocol.dialect.frame import FrameKind, build_frame, parse_frame
from swarm_protocol.errors import MalformedMessageError

FRAME = build_frame(FrameKind.CLOSE, 2, [b"abcd", b"efgh"])


def test_a_header_holds_version_kind_number_of_entries_and_length() -> None:
    """Little-endian; the body follows at byte 8."""
    assert FRAME.hex() == "0103020008000000" + b"abcdefgh".hex()


def test_a_frame_is_read_back() -> None:
    """The body is all that follows the header."""
    frame = parse_frame(FRAME)

    assert (frame.kind, frame.num_entries, bytes(frame.body)) == (
        FrameKind.CLOSE,
        2,
        b"abcdefgh",
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no 0 bytes"),
        (FRAME[:7], "no 7 bytes"),
        (b"\x02" + FRAME[1:], "version 1, got 2"),
        (b"\x01\x09" + FRAME[2:], "unknown kind of frame 9"),
        (FRAME[:2] + b"\0\0" + FRAME[4:], "at least one entry"),
        (FRAME[:-1], "expected 8 bytes after the header, got 7"),
        (FRAME + b"x", "expected 8 bytes after the header, got 9"),
    ],
)
def test_a_wrong_header_is_refused(data: bytes, reason: str) -> None:
    """The error says what is wrong with it."""
    with pytest.raises(MalformedMessageError, match=reason):
        parse_frame(data)


@pytest.mark.parametrize("num_entries", [0, 2**16])
def test_a_frame_with_too_few_or_many_entries_is_not_built(num_entries: int) -> None:
    """The header has 16 bits for their number."""
    with pytest.raises(MalformedMessageError):
        build_frame(FrameKind.CLOSE, num_entries, [])
