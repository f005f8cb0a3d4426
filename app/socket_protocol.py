"""WebSockets as uvicorn speaks them, with replies past ASGI and a quiet end for broken text."""

from typing import Final, cast

import structlog
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from app.direct_writes import offer_socket

log = structlog.get_logger(__name__)

_CLOSE_INVALID_TEXT: Final = 1007  # RFC 6455, 7.4.1


class GatewaySocketProtocol(WebSocketsSansIOProtocol):
    """Every WebSocket knows its connection; a text that is not UTF-8 closes it with code 1007."""

    def handle_connect(self, event: Request) -> None:
        """Begin a WebSocket, whose task has not run yet when this returns."""
        super().handle_connect(event)
        if not self.close_sent:  # else it was no handshake
            offer_socket(cast(dict[str, object], self.scope), self)

    def send_receive_event_to_app(self) -> None:
        """Pass on a message; uvicorn itself would log a traceback for a caller's broken bytes."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not self._is_text():
            log.info("socket_text_not_utf8")
            self.frames = []
            self.conn.send_close(_CLOSE_INVALID_TEXT)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    def _is_text(self) -> bool:
        try:
            b"".join(self.frames).decode()
        except UnicodeDecodeError:
            return False
        return True
