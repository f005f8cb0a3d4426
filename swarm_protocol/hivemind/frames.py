"""Frames of a streaming call over the daemon's local socket.

A frame is a marker byte, an 8-byte big-endian length and the payload. Marker 0 is a message;
marker 1 is the end of input from the caller, an error from the server.
Source: PETALS_PROTOCOL §0.4. hivemind's own reader believes any length; this one does not.
"""

import asyncio
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from contextlib import suppress
from struct import Struct
from typing import Final

from hivemind.proto.p2pd_pb2 import RPCError

from swarm_protocol.errors import (
    MalformedMessageError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnreachableError,
)
from swarm_protocol.identifiers import PeerId
from swarm_protocol.node import MAX_FRAME_BYTES

STREAM_BUFFER_BYTES: Final = 1024 * 1024
"""For readers of streams: a prefill chunk arrives in few wake-ups."""

_HEADER: Final = Struct(">BQ")
_MESSAGE: Final = 0
_END_OR_ERROR: Final = 1
_MAX_ERROR_BYTES: Final = 64 * 1024
_PREFETCHED_FRAMES: Final = 4


async def write_frame(writer: StreamWriter, payload: bytes, marker: int = _MESSAGE) -> None:
    """Write one frame; returns when the socket has room again.

    Raises:
        OSError: the connection is gone.
    """
    writer.writelines((_HEADER.pack(marker, len(payload)), payload))
    await writer.drain()


async def read_frame(reader: StreamReader) -> tuple[int, bytes] | None:
    """Return marker and payload of the next frame, or None at a clean end.

    Raises:
        MalformedMessageError: unknown marker, or a length over the limit.
        IncompleteReadError: the stream ended inside a frame.
        OSError: the connection is gone.
    """
    try:
        header = await reader.readexactly(_HEADER.size)
    except IncompleteReadError as error:
        if error.partial:
            raise
        return None
    marker, length = _HEADER.unpack(header)
    limit = MAX_FRAME_BYTES if marker == _MESSAGE else _MAX_ERROR_BYTES
    if marker not in (_MESSAGE, _END_OR_ERROR) or length > limit:
        raise MalformedMessageError(f"a frame with marker {marker} and length {length} is refused")
    return marker, await reader.readexactly(length)


class HivemindCallStream:
    """The calling side of one streaming call (`CallStream`)."""

    def __init__(self, peer: PeerId, reader: StreamReader, writer: StreamWriter) -> None:
        self._peer = peer
        self._reader = reader
        self._writer = writer

    async def send(self, frame: bytes) -> None:
        try:
            await write_frame(self._writer, frame)
        except OSError as error:
            raise PeerUnreachableError(self._peer, "the connection broke") from error

    async def receive(self) -> bytes | None:
        try:
            frame = await read_frame(self._reader)
        except (IncompleteReadError, OSError) as error:
            raise PeerUnreachableError(self._peer, "the connection broke") from error
        except MalformedMessageError as error:
            raise PeerMisbehavedError(self._peer, str(error)) from error
        if frame is None:
            return None
        marker, payload = frame
        if marker == _END_OR_ERROR:
            raise PeerRefusedError(self._peer, _error_text(payload))
        return payload

    async def finish(self) -> None:
        with suppress(OSError):
            await write_frame(self._writer, b"", _END_OR_ERROR)

    def close(self) -> None:
        self._writer.close()


class HivemindServedStream:
    """The serving side of one streaming call (`ServedStream`).

    A reader task fetches frames ahead of the handler, because reading is the only way to notice
    that the caller went away.
    """

    def __init__(self, caller: PeerId, reader: StreamReader, writer: StreamWriter) -> None:
        self._caller = caller
        self._reader = reader
        self._writer = writer
        self._frames: asyncio.Queue[bytes | MalformedMessageError | None] = asyncio.Queue(
            _PREFETCHED_FRAMES
        )

    @property
    def caller(self) -> PeerId:
        return self._caller

    async def receive(self) -> bytes | None:
        frame = await self._frames.get()
        if isinstance(frame, MalformedMessageError):
            raise frame
        return frame

    async def send(self, frame: bytes) -> None:
        try:
            await write_frame(self._writer, frame)
        except OSError as error:
            raise PeerUnreachableError(self._caller, "the caller is gone") from error

    async def send_error(self, text: str) -> None:
        """Send an error frame, the last one of a failed call; a caller who left misses it."""
        with suppress(OSError):
            payload: bytes = RPCError(message=text).SerializeToString()
            await write_frame(self._writer, payload, _END_OR_ERROR)

    async def read_until_caller_leaves(self) -> None:
        """Queue frames as they come; returns when the connection closed."""
        try:
            while (frame := await read_frame(self._reader)) is not None:
                marker, payload = frame
                await self._frames.put(payload if marker == _MESSAGE else None)
        except MalformedMessageError as error:
            await self._frames.put(error)
            await self._reader.read()
        except (IncompleteReadError, OSError):
            return


def _error_text(payload: bytes) -> str:
    error = RPCError()
    with suppress(Exception):  # whatever it is, it means that the call failed
        error.ParseFromString(payload)
    return str(error.message) or "no reason given"
