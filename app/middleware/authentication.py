"""Asks for an API key everywhere but where `app.access` says that it is public."""

from functools import partial
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.access import Access, access_to
from app.api.petals.socket import refuse_socket
from app.api.replies import send_error
from app.errors import describe_error
from app.keys.keyring import Keyring
from app.observability.metrics import Metrics
from swarm_protocol.errors import SwarmError

KEY_SUBPROTOCOL: Final = "key."
"""Pages cannot give a WebSocket headers; they offer `swarmgate` and `key.KEY` as subprotocols."""


class Authentication:
    """Puts the `Caller` into the request's state, or refuses the request.

    A connection gets the question itself, too: it may live longer than its key.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, metrics: Metrics) -> None:
        self._app = app
        self._keyring = keyring
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] == "lifespan" or (access := access_to(scope["path"])).is_public:
            await self._app(scope, receive, send)
            return
        error = await self._identify(scope, access)
        if error is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await refuse_socket(scope, receive, send, error)
        else:
            await send_error(scope, send, error)

    async def _identify(self, scope: Scope, access: Access) -> SwarmError | None:
        """Note who is calling; return why the request is refused, if it is."""
        client = scope.get("client")
        address = client[0] if client else None
        identify = partial(self._keyring.identify, _key_of(scope), address, access)
        try:
            scope["state"]["caller"] = await identify()
        except SwarmError as error:
            self._metrics.refused.labels(describe_error(error).code).inc()
            return error
        if scope["type"] == "websocket":
            scope["state"]["identify"] = identify
        return None


def _key_of(scope: Scope) -> str | None:
    """Return the key that a request has, wherever its dialect puts it."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    for name in (b"x-api-key", b"api-key"):
        if name in headers:
            return headers[name].decode("latin-1").strip()
    for offered in scope.get("subprotocols", ()):
        if offered.startswith(KEY_SUBPROTOCOL):
            return str(offered.removeprefix(KEY_SUBPROTOCOL))
    return None
