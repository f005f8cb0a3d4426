"""Ends of sessions: CLOSE and CANCEL from the client, FAILED from the server.

Source: docs/reference/protocol.md.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from swarm_protocol.dialect.fields import Fact, Fields, parse_maps
from swarm_protocol.dialect.frame import Frame, FrameKind, build_frame
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.serializer import pack

_MAX_CODE_LENGTH: Final = 64
_MAX_MESSAGE_LENGTH: Final = 1000
_MAX_FACTS: Final = 32

NO_SESSION: Final = 0
"""Id of a failure that ends no session: it tells of the server."""

DRAINING_CODE: Final = "server_draining"
"""Of the failure by which a server that is about to stop says so."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A session has ended by an error; `code` is stable, `message` is for logs.

    With the id `NO_SESSION` none has.
    """

    session_id: int
    code: str
    message: str
    retryable: bool
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FailedFrame:
    """Sessions that have ended by an error."""

    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class CloseFrame:
    """Sessions that end in good order."""

    session_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CancelFrame:
    """Sessions whose steps under way nobody waits for; they stay open."""

    session_ids: tuple[int, ...]


def encode_failed(failures: Sequence[Failure]) -> bytes:
    """Return a FAILED frame; long messages are cut."""
    entries = [_failure_to_wire(failure) for failure in failures]
    return build_frame(FrameKind.FAILED, len(entries), [pack(entries)])


def encode_close(session_ids: Sequence[int]) -> bytes:
    """Return a CLOSE frame."""
    return build_frame(FrameKind.CLOSE, len(session_ids), [_pack_ids(session_ids)])


def encode_cancel(session_ids: Sequence[int]) -> bytes:
    """Return a CANCEL frame."""
    return build_frame(FrameKind.CANCEL, len(session_ids), [_pack_ids(session_ids)])


def decode_failed(frame: Frame) -> FailedFrame:
    """Return which sessions have failed, and how.

    Raises:
        MalformedMessageError: a key is missing or has a value that does not fit.
    """
    return FailedFrame(tuple(_read_failure(fields) for fields in parse_maps(frame)))


def decode_close(frame: Frame) -> CloseFrame:
    """Return which sessions end. Raises as `decode_failed` does."""
    return CloseFrame(_unpack_ids(frame))


def decode_cancel(frame: Frame) -> CancelFrame:
    """Return whose steps are not wanted any more. Raises as `decode_failed` does."""
    return CancelFrame(_unpack_ids(frame))


def _failure_to_wire(failure: Failure) -> dict[str, object]:
    return {
        "id": failure.session_id,
        "code": failure.code,
        "message": failure.message[:_MAX_MESSAGE_LENGTH],
        "retryable": failure.retryable,
        "facts": dict(failure.facts),
    }


def _read_failure(fields: Fields) -> Failure:
    return Failure(
        session_id=fields.whole("id"),
        code=fields.text("code", max_length=_MAX_CODE_LENGTH),
        message=fields.text("message", max_length=_MAX_MESSAGE_LENGTH),
        retryable=fields.truth("retryable"),
        facts=fields.facts("facts", most=_MAX_FACTS),
    )


def _pack_ids(session_ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(session_ids)}I", *session_ids)


def _unpack_ids(frame: Frame) -> tuple[int, ...]:
    layout = f"<{frame.num_entries}I"
    if len(frame.body) != struct.calcsize(layout):
        raise MalformedMessageError(f"expected {frame.num_entries} session ids of 4 bytes")
    return struct.unpack(layout, frame.body)
