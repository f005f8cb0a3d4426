"""Frames of a streaming call over the daemon's local socket.

A frame is a marker byte, an 8-byte big-endian length and the payload. Marker 0 is a message;
marker 1 is the end of input from the caller, an error from the server.
Source: PETALS_PROTOCOL §0.4. hivemind's own reader believes any length; this one does not.
"""

import asyncio
import socket
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from contextlib import suppress
from struct import Struct
from typing import Final, Protocol

from hivemind.proto.p2pd_pb2 import RPCError

from swarm_protocol.errors import (
    MalformedMessageError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnreachableError,
)
from swarm_protocol.identifiers import PeerId
from swarm_protocol.node import MAX_FRAME_BYTES

HEADER: Final = Struct(">BQ")
MESSAGE: Final = 0

STREAM_BUFFER_BYTES: Final = 1024 * 1024
"""For readers of streams: a prefill chunk arrives in few wake-ups. What waits to be taken may be so
much; then nothing more is read."""

_END_OR_ERROR: Final = 1
_SEND_BUFFER_BYTES: Final = 1024 * 1024  # the system grants what it allows
_MAX_ERROR_BYTES: Final = 64 * 1024
_TAKEN_TIMEOUT_S: Final = 30.0
_HEARD_TIMEOUT_S: Final = 2.0


class FrameEnd(Protocol):
    """One end of a connection that carries frames."""

    async def read(self) -> tuple[int, bytes] | None:
        """Return marker and payload of the next frame, or None at a clean end.

        Raises:
            MalformedMessageError: unknown marker, or a length over the limit.
            IncompleteReadError: the connection ended inside a frame.
            OSError: the connection is gone.
        """

    async def write(self, payload: bytes, marker: int = MESSAGE) -> None:
        """Write one frame; returns when the socket has room again.

        Raises:
            OSError: the connection is gone.
        """

    @property
    def has_room(self) -> bool:
        """Whether the connection is there, and nothing waits for its socket."""

    def write_now(self, payload: bytes) -> None:
        """Write one message; for whoever has seen that there is room."""

    def close(self) -> None:
        """Close the connection when all is written. Idempotent."""

    def abort(self) -> None:
        """Close the connection now, whatever waits for the peer to read."""


class ServedEnd(FrameEnd, Protocol):
    """The end of a caller's connection, read ahead: how else would one notice that they left."""

    async def wait_left(self) -> None:
        """Wait until the caller has left; to be called once."""

    async def drop_rest(self, max_bytes: int) -> None:
        """Read on for nobody until the caller has left, or has sent so much; the last to read."""


class StreamEnd:
    """A `FrameEnd` as hivemind hands them out: a reader and a writer."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        write_at_once(writer.transport)

    async def read(self) -> tuple[int, bytes] | None:
        try:
            header = await self._reader.readexactly(HEADER.size)
        except IncompleteReadError as error:
            if error.partial:
                raise
            return None
        marker, length = parse_header(header)
        return marker, await self._reader.readexactly(length)

    async def write(self, payload: bytes, marker: int = MESSAGE) -> None:
        if self._writer.transport.is_closing():  # uvloop's would raise a RuntimeError
            raise ConnectionResetError
        self.write_now(payload, marker)
        await self._writer.drain()

    @property
    def has_room(self) -> bool:
        transport = self._writer.transport
        return not transport.is_closing() and transport.get_write_buffer_size() == 0

    def write_now(self, payload: bytes, marker: int = MESSAGE) -> None:
        self._writer.writelines((HEADER.pack(marker, len(payload)), payload))

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()


class ServedStreamEnd(StreamEnd):
    """A `ServedEnd` of the same kind. Frames come while somebody is in `wait_left`."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        super().__init__(reader, writer)
        self._frames = asyncio.Queue[tuple[int, bytes] | MalformedMessageError]()
        self._num_waiting_bytes = 0
        self._has_room = asyncio.Event()

    async def read(self) -> tuple[int, bytes] | None:
        frame = await self._frames.get()
        if isinstance(frame, MalformedMessageError):
            raise frame
        self._num_waiting_bytes -= HEADER.size + len(frame[1])
        self._has_room.set()
        return frame

    async def wait_left(self) -> None:
        with suppress(IncompleteReadError, OSError):
            try:
                while (frame := await super().read()) is not None:
                    self._frames.put_nowait(frame)
                    self._num_waiting_bytes += HEADER.size + len(frame[1])
                    while self._num_waiting_bytes > STREAM_BUFFER_BYTES:
                        self._has_room.clear()
                        await self._has_room.wait()
            except MalformedMessageError as error:
                self._frames.put_nowait(error)
                while await self._reader.read(STREAM_BUFFER_BYTES):
                    pass

    async def drop_rest(self, max_bytes: int) -> None:
        with suppress(OSError):
            while max_bytes > 0 and (dropped := await self._reader.read(STREAM_BUFFER_BYTES)):
                max_bytes -= len(dropped)


def write_at_once(transport: asyncio.WriteTransport) -> None:
    """Let frames leave when they are written, and whole.

    Else uvloop collects small ones until it has done all else that is due. And what does not fit
    the usual buffer of 208 KiB, such as a frame of 32 sessions, would wait until the reader has
    woken up, and then for a turn of our own loop.
    """
    transport.set_write_buffer_limits(0)
    end = transport.get_extra_info("socket")
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)


def parse_header(header: bytes | memoryview) -> tuple[int, int]:
    """Return marker and length of the payload.

    Raises:
        MalformedMessageError: unknown marker, or a length over the limit.
    """
    marker, length = HEADER.unpack(header)
    limit = MAX_FRAME_BYTES if marker == MESSAGE else _MAX_ERROR_BYTES
    if marker not in (MESSAGE, _END_OR_ERROR) or length > limit:
        raise MalformedMessageError(f"a frame with marker {marker} and length {length} is refused")
    return marker, length


class HivemindCallStream:
    """The calling side of one streaming call (`CallStream`)."""

    def __init__(self, peer: PeerId, end: FrameEnd) -> None:
        self._peer = peer
        self._end = end

    @property
    def has_room(self) -> bool:
        return self._end.has_room

    def send_now(self, frame: bytes) -> None:
        self._end.write_now(frame)

    async def send(self, frame: bytes) -> None:
        try:
            await self._end.write(frame)
        except OSError as error:
            raise PeerUnreachableError(self._peer, "the connection broke") from error

    async def receive(self) -> bytes | None:
        try:
            frame = await self._end.read()
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
            await self._end.write(b"", _END_OR_ERROR)

    def close(self) -> None:
        self._end.close()


class HivemindServedStream:
    """The serving side of one streaming call (`ServedStream`)."""

    def __init__(self, caller: PeerId, end: ServedEnd) -> None:
        self._caller = caller
        self._end = end

    @property
    def caller(self) -> PeerId:
        return self._caller

    async def receive(self) -> bytes | None:
        try:
            frame = await self._end.read()
        except (IncompleteReadError, OSError):
            return None
        return frame[1] if frame is not None and frame[0] == MESSAGE else None

    @property
    def has_room(self) -> bool:
        return self._end.has_room

    def send_now(self, frame: bytes) -> None:
        self._end.write_now(frame)

    async def send(self, frame: bytes) -> None:
        try:
            await self._end.write(frame)
        except OSError as error:
            raise PeerUnreachableError(self._caller, "the caller is gone") from error

    async def send_error(self, text: str) -> None:
        """Send an error frame, the last one of a failed call.

        A caller who left misses it; from one who takes nothing for long the connection is taken.
        """
        payload: bytes = RPCError(message=text).SerializeToString()
        try:
            async with asyncio.timeout(_TAKEN_TIMEOUT_S):
                await self._end.write(payload, _END_OR_ERROR)
        except TimeoutError:
            self._end.abort()
        except OSError:
            pass

    async def wait_left(self) -> None:
        """Wait until the caller is gone."""
        await self._end.wait_left()

    async def wait_heard(self) -> None:
        """Let the caller, who may still be sending, read the error before the connection closes.

        Closed with data unread or on their way, it makes the daemon reset the stream, and forget
        what it has not passed on.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEARD_TIMEOUT_S):
                await self._end.drop_rest(MAX_FRAME_BYTES)


def _error_text(payload: bytes) -> str:
    error = RPCError()
    with suppress(Exception):  # whatever it is, it means that the call failed
        error.ParseFromString(payload)
    return str(error.message) or "no reason given"
