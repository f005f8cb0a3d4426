"""Asks for an API key everywhere but on the public routes listed here."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.petals_socket import refuse_socket
from app.api.replies import send_error
from app.callers import Keyring
from app.errors import InvalidKeyError
from app.observability.metrics import Metrics

_PUBLIC_PATHS: Final = frozenset({"/", "/health/live", "/health/ready"})
_PUBLIC_FOLDER: Final = "/static/"


class Authentication:
    """Puts the `Caller` into the request's state, or refuses the request."""

    def __init__(self, app: ASGIApp, keyring: Keyring, metrics: Metrics) -> None:
        self._app = app
        self._keyring = keyring
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] == "lifespan" or _is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        client = scope.get("client")
        try:
            caller = self._keyring.identify(authorization, client[0] if client else None)
        except InvalidKeyError as error:
            self._metrics.refused.labels(error.code).inc()
            if scope["type"] == "websocket":
                await refuse_socket(receive, send, error)
            else:
                await send_error(scope, send, error)
            return
        scope["state"]["caller"] = caller
        await self._app(scope, receive, send)


def _is_public(path: str) -> bool:
    return path in _PUBLIC_PATHS or path.startswith(_PUBLIC_FOLDER)
