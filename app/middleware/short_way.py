"""Leads requests for raw endpoints straight to them, past the framework's own layers and router.

A stream holds the frame of every layer that it has passed for as long as it lasts, and there are
seven between here and an endpoint, which none of ours needs: they catch no error, for the
endpoints answer each themselves, and read nothing.
"""

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send


class ShortWay:
    """Innermost of the layers.

    Args:
        endpoints: by path, without parameters; each takes POST, and raises nothing.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        endpoint = None
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._endpoints.get(scope["path"])
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        scope["endpoint"], scope["path_params"] = endpoint, {}  # as the router says it
        await endpoint(scope, receive, send)
