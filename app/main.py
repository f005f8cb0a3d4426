"""Puts the gateway's app together: routes, layers around them, and the life of its parts."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from app.admission import Admission
from app.api import health, swarm, tokens
from app.api.admin import keys as admin_keys
from app.api.admin import models as admin_models
from app.api.anthropic import messages
from app.api.anthropic.errors import MESSAGES_PATH
from app.api.openai import models as openai_models
from app.api.openai.chat import chat_endpoint
from app.api.openai.completions import completions_endpoint
from app.api.openai.embeddings import Embeddings
from app.api.openapi import document
from app.api.pages import STATIC_DIRECTORY, Pages
from app.api.petals.v1 import PetalsV1
from app.api.petals.v2 import petals_v2
from app.api.replies import PETALS_V1_PATH, PETALS_V2_PATH, error_response
from app.api.responses import inputs, stored
from app.api.responses.create import responses_endpoint
from app.api.responses.retrieve import RetrieveResponse
from app.api.streams import Streams
from app.api.unrouted import unrouted_error
from app.context import AppContext
from app.gateway import GatewayFactory, open_gateway
from app.journals.keeper import JournalKeeper
from app.keys.keyring import Keyring, StoredKeys
from app.keys.registry import KeyRegistry
from app.keys.store import KeyStore, open_key_store
from app.layers import add_layers
from app.middleware.short_way import ShortWay
from app.observability.metrics import Metrics
from app.observability.pulse import Pulse
from app.settings import Settings
from app.state.fallback_limiter import FallbackRateLimiter
from swarm_protocol.errors import SwarmError

if TYPE_CHECKING:
    from app.observability.tracing import Tracing


def create_app(
    settings: Settings,
    *,
    gateway: GatewayFactory = open_gateway,
    static_directory: Path = STATIC_DIRECTORY,
    tracing: "Tracing | None" = None,
) -> FastAPI:
    """Return the gateway's ASGI app.

    While its lifespan runs, `app.state.gateway` holds the parts and `app.state.context` all that
    the surfaces use.

    Args:
        gateway: opens the parts for the time of the lifespan; tests and benchmarks give
            `lambda settings: contextlib.nullcontext(Gateway(...))`.
        static_directory: the chat page.
        tracing: takes the trace spans; by default, what the settings say.
    """
    metrics = Metrics()
    tracing = tracing or _open_tracing(settings)
    key_store = _open_key_store(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _closing(key_store) as keys, gateway(settings) as parts:
            limiter = FallbackRateLimiter(parts.store.rate_limiter, settings.limits.away_fraction)
            admission = Admission(limiter, settings.limits, metrics)
            keeper = JournalKeeper(
                parts.store.journals,
                resume_s=settings.resume_s,
                abandoned_s=settings.abandoned_s,
            )
            app.state.gateway = parts
            app.state.context = AppContext(settings, parts, admission, metrics, keeper, keys)
            pulse = Pulse(
                metrics.pulse,
                lambda: parts.engine.models,
                lambda: admission.is_draining,
                metrics.generations.tell_tokens,
            )
            async with keeper.running(), admission.running(), pulse.running():
                yield
        if tracing is not None:
            await tracing.close()

    app = FastAPI(title="swarmgate", openapi_url=None, lifespan=lifespan)
    endpoints = _raw_endpoints()
    _add_routes(app, endpoints, Pages(static_directory))
    app.add_exception_handler(SwarmError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_middleware(ShortWay, endpoints=endpoints)
    add_layers(app, settings, _keyring(settings, key_store), metrics, tracing)
    return app


def _open_tracing(settings: Settings) -> "Tracing | None":
    if settings.tracing.endpoint is None:
        return None
    # Imported here: it needs an extra.
    from app.observability.tracing import Tracing

    return Tracing.open(settings.tracing)


def _open_key_store(settings: Settings) -> KeyStore | None:
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    return open_key_store(redis_url, settings.keys.file)


@asynccontextmanager
async def _closing(store: KeyStore | None) -> AsyncIterator[KeyRegistry | None]:
    """Give the registry of the stored keys, and close their store in the end."""
    try:
        yield None if store is None else KeyRegistry(store)
    finally:
        if store is not None:
            await store.close()


def _keyring(settings: Settings, store: KeyStore | None) -> Keyring:
    stored = None
    if store is not None:
        stored = StoredKeys(store, cache_s=settings.keys.cache_s, grace_s=settings.keys.grace_s)
    return Keyring(
        settings.api_keys,
        admin_keys=settings.admin_keys,
        stored=stored,
        is_required=settings.needs_keys,
    )


def _raw_endpoints() -> dict[str, ASGIApp]:
    """Return what is served without the framework: nothing stands between a token and the socket.

    Each takes POST, and answers its errors itself.
    """
    return {
        PETALS_V1_PATH: PetalsV1(),
        "/v1/chat/completions": chat_endpoint(),
        "/v1/completions": completions_endpoint(),
        "/v1/responses": responses_endpoint(),
        "/v1/embeddings": Embeddings(),
        MESSAGES_PATH: messages.messages_endpoint(),
    }


def _add_routes(app: FastAPI, endpoints: Mapping[str, ASGIApp], pages: Pages) -> None:
    # The first ones are served by `ShortWay`; the router refuses their other methods.
    app.router.routes += [
        *(Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items()),
        Route("/v1/responses/{response_id}", RetrieveResponse(), methods=["GET"]),
        Route("/api/v1/streams/{journal_id}", Streams(), methods=["GET", "DELETE"]),
        Route("/", pages.index),
        Route("/swarm", pages.index),
        Route("/static/{path:path}", pages.file),
    ]
    for router in (
        health.router,
        swarm.router,
        admin_keys.router,
        admin_models.router,
        openai_models.router,
        tokens.router,
        messages.router,
        stored.router,
        inputs.router,
        document.router,
    ):
        app.include_router(router)
    app.add_api_websocket_route(PETALS_V2_PATH, petals_v2)


async def _answer_error(request: Request, error: Exception) -> Response:
    return error_response(request.scope, error)


async def _answer_http_error(request: Request, _error: Exception) -> Response:
    return error_response(request.scope, unrouted_error(request.scope, request.app.routes))
