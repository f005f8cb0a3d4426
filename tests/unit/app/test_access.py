"""Who may ask for which path."""

from collections.abc import Iterator, Sequence

import pytest
from pydantic import SecretStr
from starlette.routing import BaseRoute, Route, WebSocketRoute

from app.access import access_to
from app.keys.grants import KeySurface
from app.main import create_app
from app.settings import Settings
from tests.harness.asgi_callers import RequestCaller, SocketCaller

PUBLIC = {
    *("/", "/swarm", "/static/{path:path}"),
    *("/health/live", "/health/ready", "/openapi.json"),
}
SETTINGS = Settings(api_keys=(SecretStr("a-long-key"),))


def _walk(routes: Sequence[BaseRoute]) -> Iterator[Route | WebSocketRoute]:
    """Yield all routes, those of included routers too; a kind that is not known here fails."""
    for route in routes:
        if isinstance(route, Route | WebSocketRoute):
            yield route
        else:
            router = getattr(route, "original_router")  # noqa: B009 - a private class of FastAPI
            yield from _walk(router.routes)


ROUTES = list(_walk(create_app(SETTINGS).routes))
HTTP_PATHS = sorted({route.path for route in ROUTES if isinstance(route, Route)})
SOCKET_PATHS = sorted({route.path for route in ROUTES if isinstance(route, WebSocketRoute)})


def test_public_routes_are_these_and_no_others() -> None:
    """Whoever makes another one public has to say so here."""
    public = {path for path in HTTP_PATHS + SOCKET_PATHS if access_to(path).is_public}

    assert public == PUBLIC


@pytest.mark.parametrize("path", sorted({*HTTP_PATHS, "/nowhere", "/v1", "//"} - PUBLIC))
async def test_every_other_route_refuses_callers_without_a_key(path: str) -> None:
    """Before it is known whether there is anything at the path."""
    async with RequestCaller(create_app(SETTINGS), path, {}) as caller:
        assert await caller.status() == 401


@pytest.mark.parametrize("path", SOCKET_PATHS)
async def test_every_websocket_refuses_callers_without_a_key(path: str) -> None:
    """With a sentence and a close code."""
    async with SocketCaller(create_app(SETTINGS), path=path) as caller:
        assert "API key" in (await caller.reply())["traceback"]
        assert await caller.close_code() == 1008


@pytest.mark.parametrize(
    ("path", "surface"),
    [
        ("/v1/chat/completions", KeySurface.OPENAI),
        ("/v1/messages", KeySurface.ANTHROPIC),
        ("/v1/messages/count_tokens", KeySurface.ANTHROPIC),
        ("/api/v2/generate", KeySurface.PETALS),
        ("/tokenize", KeySurface.TOKENS),
        ("/metrics", KeySurface.STATUS),
        ("/v1/models", None),
        ("/nowhere", None),
    ],
)
def test_routes_belong_to_groups(path: str, surface: KeySurface | None) -> None:
    """A key may be confined to some of them."""
    assert access_to(path).surface == surface


def test_admin_routes_need_an_admin_key() -> None:
    """All of them, those to come included."""
    assert access_to("/api/v1/admin/keys").needs_admin
    assert access_to("/api/v1/admin/whatever/comes").needs_admin
    assert not access_to("/api/v1/swarm").needs_admin
