"""One end of a local socket that carries frames, without a stream reader in between.

A frame with the hidden states of many sessions is larger than what a reader is given at once: it
would copy each piece twice, and wake up for each. Here the kernel writes to where the frame is.
"""

import asyncio
from asyncio import IncompleteReadError
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.hivemind.frames import (
    HEADER,
    MESSAGE,
    STREAM_BUFFER_BYTES,
    write_at_once,
)
from swarm_protocol.hivemind.incoming_frames import IncomingFrames

_DROPPED_BYTES: Final = 64 * 1024


class SocketEnd(asyncio.BufferedProtocol):
    """A `FrameEnd`, also a served one, and the protocol of its transport: of use once connected."""

    def __init__(self, on_connected: "Callable[[SocketEnd], None] | None" = None) -> None:
        self._on_connected = on_connected
        self._transport: asyncio.Transport | None = None
        self._incoming = IncomingFrames()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._num_waiting_bytes = 0
        self._error: Exception | None = None
        self._has_ended = False  # no frame will come any more
        self._arrival = asyncio.Event()  # of a frame, or of the end
        self._left = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    # What the owner calls.

    async def read(self) -> tuple[int, bytes] | None:
        while not self._frames:
            if self._error is not None:
                raise self._error
            if self._has_ended:
                return None
            self._arrival.clear()
            await self._arrival.wait()
        frame = self._frames.popleft()
        was_full = self._num_waiting_bytes > STREAM_BUFFER_BYTES
        self._num_waiting_bytes -= HEADER.size + len(frame[1])
        if was_full and self._num_waiting_bytes <= STREAM_BUFFER_BYTES:
            self._connected.resume_reading()
        return frame

    @property
    def has_room(self) -> bool:
        return self._has_room.is_set() and not self._connected.is_closing()

    def write_now(self, payload: bytes, marker: int = MESSAGE) -> None:
        self._connected.writelines((HEADER.pack(marker, len(payload)), payload))

    async def write(self, payload: bytes, marker: int = MESSAGE) -> None:
        transport = self._connected
        if not transport.is_closing():
            self.write_now(payload, marker)
            if not self._has_room.is_set():
                await self._has_room.wait()
        if transport.is_closing():
            raise ConnectionResetError

    async def wait_left(self) -> None:
        await self._left.wait()

    async def drop_rest(self, max_bytes: int) -> None:
        self._end(None)  # bytes are dropped from now on, as fast as they come: why count them
        if not self._connected.is_closing():
            self._connected.resume_reading()
        await self._left.wait()

    def close(self) -> None:
        self._connected.close()

    def abort(self) -> None:
        self._connected.abort()

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        number: int = self._connected.get_extra_info("socket").fileno()
        return number

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has no such base
        write_at_once(self._transport)
        if self._on_connected is not None:
            self._on_connected(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return memoryview(bytearray(_DROPPED_BYTES)) if self._has_ended else self._incoming.room()

    def buffer_updated(self, num_bytes: int) -> None:
        if self._has_ended:  # by what was no frame: nothing counts until the peer leaves
            return
        was_full = self._num_waiting_bytes > STREAM_BUFFER_BYTES
        try:
            for frame in self._incoming.received(num_bytes):
                self._frames.append(frame)
                self._num_waiting_bytes += HEADER.size + len(frame[1])
        except MalformedMessageError as error:
            self._end(error)
        if self._frames:
            self._arrival.set()
        if not was_full and self._num_waiting_bytes > STREAM_BUFFER_BYTES:
            self._connected.pause_reading()

    def eof_received(self) -> bool:
        self._leave(None)
        return True  # what is being written still goes out

    def connection_lost(self, error: Exception | None) -> None:
        self._leave(error)
        self._has_room.set()

    def pause_writing(self) -> None:
        self._has_room.clear()

    def resume_writing(self) -> None:
        self._has_room.set()

    @property
    def _connected(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def _leave(self, error: Exception | None) -> None:
        if error is None and self._incoming.is_inside:
            error = IncompleteReadError(b"", None)
        self._end(error)
        self._left.set()

    def _end(self, error: Exception | None) -> None:
        if not self._has_ended:
            self._has_ended, self._error = True, error
            self._arrival.set()
