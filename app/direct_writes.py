"""Parts of a streamed answer, and replies of a WebSocket, written straight to the connection.

Whether the caller is there is asked of the connection, too: a task that waits in `receive` for
nothing else keeps a coroutine per layer for as long as the stream lasts.

Every layer around the app is one more coroutine per `send`; with an event per token they cost more
than making the event. Status, headers and the end of an answer go through them all the same, as do
a WebSocket's opening and closing.
"""

import asyncio
from typing import Final, Protocol

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.admission import CallerLeftError

_STATE_KEY: Final = "direct_body"
_SOCKET_KEY: Final = "direct_socket"
_WHOLE_TEXT: Final = 0x81  # first byte of a frame that is a whole text message (RFC 6455, 5.2)


class DirectBody:
    """The chunked body of one answer, as `RequestResponseCycle.send` writes it."""

    __slots__ = ("_cycle", "_watchers")

    def __init__(self, cycle: RequestResponseCycle, watchers: "set[asyncio.Future[None]]") -> None:
        self._cycle = cycle
        self._watchers = watchers

    @property
    def is_open(self) -> bool:
        """Whether it has begun and not ended, and the caller takes what is written."""
        cycle = self._cycle
        return (
            cycle.chunked_encoding is True  # None before the headers are sent
            and not cycle.flow.write_paused
            and not cycle.disconnected
            and not cycle.response_complete
        )

    def write(self, data: bytes) -> None:
        """Write a part that is not empty, while it `is_open`."""
        self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def left(self) -> "asyncio.Future[None]":
        """Return what fails with `CallerLeftError` when the connection is lost.

        To be called once the request's body has been read; cancel it when it does not matter
        any more.
        """
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._cycle.disconnected:
            watcher.set_exception(CallerLeftError())
        else:
            self._watchers.add(watcher)
            watcher.add_done_callback(self._watchers.discard)
            self._cycle.flow.resume_reading()  # a large body has paused it
        return watcher


class DirectHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it; every request knows its `DirectBody`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Nobody watches it yet."""
        super().connection_made(transport)
        self._watchers = set[asyncio.Future[None]]()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who watch."""
        super().connection_lost(exc)
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_exception(CallerLeftError())

    def on_headers_complete(self) -> None:
        """Begin a request, whose task has not run yet when this returns."""
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:  # else it is an upgrade
            self.scope["state"][_STATE_KEY] = DirectBody(self.cycle, self._watchers)


def direct_body_of(scope: Scope) -> DirectBody | None:
    """Return the body of this request's answer; None under other servers, as in tests."""
    body = scope["state"].get(_STATE_KEY)
    return body if isinstance(body, DirectBody) else None


class SocketProtocol(Protocol):
    """What `DirectSocket` asks of uvicorn's WebSocket protocol."""

    transport: asyncio.Transport
    writable: asyncio.Event
    handshake_complete: bool
    close_sent: bool
    disconnected: bool


class DirectSocket:
    """The text messages to one WebSocket, as its protocol frames them."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: SocketProtocol) -> None:
        self._protocol = protocol

    @property
    def is_open(self) -> bool:
        """Whether it is accepted and not closed, and the caller takes what is written."""
        protocol = self._protocol
        return (
            protocol.handshake_complete
            and not protocol.close_sent
            and not protocol.disconnected
            and protocol.writable.is_set()
            and not protocol.transport.is_closing()
        )

    def write_text(self, text: bytes) -> None:
        """Write a message in UTF-8, while it `is_open`."""
        self._protocol.transport.write(_head_of_text(len(text)) + text)


def offer_socket(scope: Scope, protocol: SocketProtocol) -> None:
    """Let a WebSocket know its connection."""
    scope["state"][_SOCKET_KEY] = DirectSocket(protocol)


def direct_socket_of(scope: Scope) -> DirectSocket | None:
    """Return the connection of this WebSocket; None under other servers, as in tests."""
    socket = scope.get("state", {}).get(_SOCKET_KEY)
    return socket if isinstance(socket, DirectSocket) else None


def _head_of_text(num_bytes: int) -> bytes:
    """Return what stands before a text; a server masks nothing. Source: RFC 6455, 5.2."""
    if num_bytes < 126:
        return bytes((_WHOLE_TEXT, num_bytes))
    if num_bytes < 65_536:
        return bytes((_WHOLE_TEXT, 126)) + num_bytes.to_bytes(2, "big")
    return bytes((_WHOLE_TEXT, 127)) + num_bytes.to_bytes(8, "big")
