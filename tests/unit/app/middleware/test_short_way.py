"""Which requests go past the framework."""

from starlette.types import Receive, Scope, Send

from app.middleware.short_way import ShortWay
from tests.harness.asgi_callers import RequestCaller


class _Place:
    """Says where a request has come to."""

    def __init__(self, status: int) -> None:
        self._status = status
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        await send({"type": "http.response.start", "status": self._status, "headers": []})
        await send({"type": "http.response.body"})


async def _status(path: str, method: str) -> int:
    layer = ShortWay(_Place(404), {"/raw": _Place(200)})
    async with RequestCaller(layer, path, {}, method=method) as caller:
        return await caller.status()


async def test_only_posts_to_raw_endpoints_take_it() -> None:
    """The router tells the rest what is wrong with them."""
    statuses = [
        await _status(path, method)
        for path, method in (("/raw", "POST"), ("/raw", "GET"), ("/raw/", "POST"), ("/", "POST"))
    ]

    assert statuses == [200, 404, 404, 404]


async def test_an_endpoint_is_named_as_the_router_would() -> None:
    """Traces say by it that a request was not refused."""
    place = _Place(200)
    async with RequestCaller(ShortWay(_Place(404), {"/raw": place}), "/raw", {}) as caller:
        await caller.status()

    assert (place.scope["endpoint"], place.scope["path_params"]) == (place, {})
