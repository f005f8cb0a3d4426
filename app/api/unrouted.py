"""What a request is told that no route of ours takes, and what may have been meant by it."""

import re
from collections.abc import Sequence
from typing import Final

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from app.api.openapi.operations import OPERATIONS
from app.errors import MethodNotAllowedError, RouteNotFoundError, WebSocketExpectedError
from swarm_protocol.errors import SwarmError

_METHODS: Final = ("DELETE", "GET", "HEAD", "POST")
_PREFIXES: Final = re.compile(r"(?:/v1)*(?=/)")
_HABITS: Final = {
    "/docs": "/openapi.json",
    "/redoc": "/openapi.json",
    "/health": "/health/ready",
}
"""Where other gateways have what is elsewhere here."""
_PATHS: Final = frozenset(each.path for each in OPERATIONS if each.path.startswith("/v1/"))


def unrouted_error(scope: Scope, routes: Sequence[BaseRoute]) -> SwarmError:
    """Return why none of the routes takes a request: the protocol, the method, or the path."""

    def take(**changes: str) -> bool:
        return any(route.matches({**scope, **changes})[0] is Match.FULL for route in routes)

    if take(type="websocket"):
        return WebSocketExpectedError()
    allowed = [method for method in _METHODS if take(method=method)]
    if allowed and scope["method"] not in allowed:
        return MethodNotAllowedError(allowed)
    return RouteNotFoundError(_meant_path(scope["path"]))


def _meant_path(path: str) -> str | None:
    """Return a path of ours: often `/v1` is lacking, or repeated, for it belongs to base URLs."""
    if path in _HABITS:
        return _HABITS[path]
    likely = _PREFIXES.sub("/v1", path, count=1)
    return likely if likely in _PATHS else None
