"""Refuses bodies over the limit, before anything parses them."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.replies import send_error
from app.errors import BodyTooLargeError
from app.observability.metrics import Metrics


class BodyLimit:
    """Looks at the announced length first, and counts what really comes."""

    def __init__(self, app: ASGIApp, max_bytes: int, metrics: Metrics) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        num_bytes = 0

        async def receive_counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise BodyTooLargeError(self._max_bytes)
            return message

        if _announced_bytes(scope) > self._max_bytes:
            error = BodyTooLargeError(self._max_bytes)
            self._metrics.refused.labels(error.code).inc()
            await send_error(scope, send, error)
            return
        await self._app(scope, receive_counted, send)


def _announced_bytes(scope: Scope) -> int:
    """Return the announced length; 0 when there is none, or none that is a number."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() and len(lengths[0]) < 20 else 0
