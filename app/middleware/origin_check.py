"""Refuses what pages of other sites send, and what is sent to a name that is not ours."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.petals.socket import refuse_socket
from app.api.replies import send_error
from app.errors import ForeignOriginError
from app.observability.metrics import Metrics
from app.origins import OriginRules

_HARMLESS_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing, and a browser keeps their answers from foreign pages."""


class OriginCheck:
    """Looks at `Host` and `Origin` of every request and connection."""

    def __init__(self, app: ASGIApp, rules: OriginRules, metrics: Metrics) -> None:
        self._app = app
        self._rules = rules
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] == "lifespan" or self._is_allowed(scope):
            await self._app(scope, receive, send)
            return
        error = ForeignOriginError()
        self._metrics.refused.labels(error.code).inc()
        if scope["type"] == "websocket":
            await refuse_socket(scope, receive, send, error)
        else:
            await send_error(scope, send, error)

    def _is_allowed(self, scope: Scope) -> bool:
        origin, host = None, ""
        for name, value in scope["headers"]:
            if name == b"origin":
                origin = value.decode("latin-1")
            elif name == b"host":
                host = value.decode("latin-1")
        if not self._rules.allows_host(host):
            return False
        return scope.get("method") in _HARMLESS_METHODS or self._rules.allows_origin(origin, host)
