"""HTTP/1.1 as uvicorn speaks it, with bounds on what comes before a body.

uvicorn waits for the end of a head for ever, and keeps all of it: one caller with many connections
that send a byte a minute would hold them all, and one with an endless header the memory. Nor does
it mind how many connections one address has.
"""

import asyncio
from typing import ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.open_connections import OpenConnections

_MAX_HEAD_BYTES: Final = 65_536
_TOO_MANY: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose head is too long, or too long on its way; bodies are others' task.

    Between two requests uvicorn's own keep-alive timeout holds. What it notes of a connection is in
    slots: with more than 30 attributes an object's dictionary takes 1.3 KiB more.

    Attributes:
        open_connections: all of this process; a subclass has its own.
    """

    __slots__ = ("_counted_address", "_num_head_bytes", "_timer")

    head_timeout_s: ClassVar[float] = 15.0
    open_connections: ClassVar[OpenConnections] = OpenConnections()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a head, unless the address has enough connections."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._num_head_bytes = 0
        self._counted_address: str | None = None
        address = self.client[0] if self.client else None
        if address is not None:
            if not self.open_connections.open(address):
                transport.write(_TOO_MANY)
                transport.close()
                return
            self._counted_address = address
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take in bytes, and see whether the head has come to its end."""
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()
        self._num_head_bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._num_head_bytes > _MAX_HEAD_BYTES:
            self.send_400_response("The request's head is too long.")

    def on_message_begin(self) -> None:
        """Expect the head of a request that follows right behind another one."""
        super().on_message_begin()
        if self._timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """Go on with the request."""
        self._stop_expecting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_expecting()
        self._stop_counting()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; WebSockets are counted elsewhere, by key and by address."""
        self._stop_counting()
        super().handle_websocket_upgrade()

    def _expect_head(self) -> None:
        self._num_head_bytes = 0
        self._timer = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _stop_expecting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_counting(self) -> None:
        if self._counted_address is not None:
            self.open_connections.close(self._counted_address)
            self._counted_address = None
