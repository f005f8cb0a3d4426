"""HTTP/1.1 as uvicorn speaks it, with bounds on what comes before a body.

uvicorn waits for the end of a head for ever, and keeps all of it: one caller with many connections
that send a byte a minute would hold them all, and one with an endless header the memory.
"""

import asyncio
from typing import ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MAX_HEAD_BYTES: Final = 65_536


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose head is too long, or too long on its way; bodies are others' task.

    Between two requests uvicorn's own keep-alive timeout holds.
    """

    head_timeout_s: ClassVar[float] = 15.0

    _timer: asyncio.TimerHandle | None = None
    _num_head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a head."""
        super().connection_made(transport)
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
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._num_head_bytes = 0
        self._timer = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _stop_expecting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
