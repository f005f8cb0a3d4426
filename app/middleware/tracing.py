"""Traces requests and connections; not there unless tracing is on."""

from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:  # it needs an extra
    from app.observability.tracing import Tracing

_UNTRACED: Final = ("/health/", "/metrics", "/static/")


class TraceRequests:
    """Opens a trace span around each request but those of machines that watch."""

    def __init__(self, app: ASGIApp, tracing: "Tracing") -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, connection or lifespan."""
        if scope["type"] == "lifespan" or scope["path"].startswith(_UNTRACED):
            await self._app(scope, receive, send)
            return
        with self._tracing.request(scope) as trace:

            async def send_noting_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    trace.answered(message["status"])
                await send(message)

            await self._app(scope, receive, send_noting_status)
