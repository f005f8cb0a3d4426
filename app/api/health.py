"""`GET /health/live`, `GET /health/ready` and `GET /metrics`: for machines that watch."""

import asyncio

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.api.replies import json_response
from app.context import AppContext, context_of
from app.readiness import ModelReadiness, Readiness
from app.state.errors import StateUnavailableError

router = APIRouter()


@router.get("/health/live")
async def live() -> Response:
    """Answer: the process runs."""
    return json_response({"status": "alive"})


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """Answer 200 when a token of each model could be made now, else 503 and why not.

    That is: a canary token came back lately, no block is missing, and the gateway is not about to
    stop. A state store that does not answer is a warning beside it.
    """
    readiness = await _readiness(context_of(request.scope))
    return json_response(readiness.to_json(), status=503 if readiness.reasons() else 200)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format; the store is asked for a sign of life."""
    context = context_of(request.scope)
    context.metrics.store.set(await _has_store(context))
    body = await asyncio.to_thread(context.metrics.exposition)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


async def _readiness(context: AppContext) -> Readiness:
    has_store = await _has_store(context)
    offered = context.gateway.engine.models
    models = {model.id: ModelReadiness.of(model) for model in offered.values()}
    return Readiness(context.admission.is_draining, has_store, models)


async def _has_store(context: AppContext) -> bool:
    try:
        await context.gateway.store.check()
    except StateUnavailableError:
        return False
    return True
