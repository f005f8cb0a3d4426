"""The outer form of every frame of `swarmgate.steps`: a header of 8 bytes, and a body.

Knows the kinds of frames and none of their contents. Source: docs/reference/protocol.md.
"""

from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.node import MAX_FRAME_BYTES

VERSION: Final = 1

_HEADER: Final = Struct("<BBHI")  # version, kind, number of entries, bytes of the body
_MAX_ENTRIES: Final = 0xFFFF


class FrameKind(IntEnum):
    """What a frame is about; those from 16 on go from server to client."""

    OPEN = 1
    STEPS = 2
    CLOSE = 3
    CANCEL = 4
    PUSHED = 5
    OPENED = 16
    FAILED = 17
    OUTPUTS = 18


_KINDS: Final = {kind.value: kind for kind in FrameKind}


class Frame(NamedTuple):
    """A frame whose header is right. `num_entries` is at least 1; `body` is a view."""

    kind: FrameKind
    num_entries: int
    body: memoryview


def parse_frame(data: bytes) -> Frame:
    """Return the frame that `data` holds.

    Raises:
        MalformedMessageError: the header is not one of this version, or tells another length.
    """
    if not _HEADER.size <= len(data) <= MAX_FRAME_BYTES:
        raise MalformedMessageError(f"a frame has no {len(data)} bytes")
    version, code, num_entries, body_bytes = _HEADER.unpack_from(data)
    if version != VERSION:
        raise MalformedMessageError(f"expected a frame of version {VERSION}, got {version}")
    if body_bytes != len(data) - _HEADER.size:
        raise MalformedMessageError(
            f"expected {body_bytes} bytes after the header, got {len(data) - _HEADER.size}"
        )
    if num_entries == 0:
        raise MalformedMessageError("a frame has at least one entry")
    kind = _KINDS.get(code)
    if kind is None:
        raise MalformedMessageError(f"unknown kind of frame {code}")
    return Frame(kind, num_entries, memoryview(data)[_HEADER.size :])


def build_frame(
    kind: FrameKind, num_entries: int, parts: Sequence[bytes | bytearray | memoryview]
) -> bytes:
    """Return the bytes of a frame whose body is the parts, one after the other.

    Raises:
        MalformedMessageError: no entry, or too many or too many bytes for one frame.
    """
    body_bytes = sum([len(part) for part in parts])
    if not 1 <= num_entries <= _MAX_ENTRIES:
        raise MalformedMessageError(f"a frame cannot have {num_entries} entries")
    if body_bytes > MAX_FRAME_BYTES - _HEADER.size:
        raise MalformedMessageError(f"a frame cannot hold {body_bytes} bytes")
    return b"".join((_HEADER.pack(VERSION, kind, num_entries, body_bytes), *parts))
