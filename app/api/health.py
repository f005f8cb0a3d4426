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

    That is: a canary token came back lately, no block is missing, the state store answers, and
    the gateway is not about to stop.
    """
    readiness = await _readiness(context_of(request.scope))
    return json_response(readiness.to_json(), status=503 if readiness.reasons() else 200)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    body = await asyncio.to_thread(context_of(request.scope).metrics.exposition)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


async def _readiness(context: AppContext) -> Readiness:
    gateway = context.gateway
    try:
        await gateway.store.check()
        has_store = True
    except StateUnavailableError:
        has_store = False
    models = {model.id: ModelReadiness.of(model) for model in gateway.engine.models.values()}
    return Readiness(context.admission.is_draining, has_store, models)
