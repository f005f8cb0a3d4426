"""`GET /health/live`, `GET /health/ready` and `GET /metrics`: for machines that watch."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.api.replies import json_response
from app.context import AppContext, context_of
from app.state.errors import StateUnavailableError

router = APIRouter()


@router.get("/health/live")
async def live() -> Response:
    """Answer: the process runs."""
    return json_response({"status": "alive"})


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """Answer 200 when a token of each model came back lately and the store answers, else 503."""
    context = context_of(request.scope)
    reasons = await _reasons(context)
    models = {
        model.id: {"ok": canary.ok, "age_s": canary.age_s, "reason": canary.reason}
        for model in context.gateway.engine.models.values()
        for canary in (model.last_canary(),)
    }
    body = {"ready": not reasons, "reasons": reasons, "models": models}
    return json_response(body, status=503 if reasons else 200)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    body = context_of(request.scope).metrics.exposition()
    return Response(body, media_type=CONTENT_TYPE_LATEST)


async def _reasons(context: AppContext) -> list[str]:
    reasons = []
    if context.admission.is_draining:
        reasons.append("the gateway is about to stop")
    for model in context.gateway.engine.models.values():
        canary = model.last_canary()
        if not canary.ok:
            reasons.append(f"model {model.id}: no token came back lately ({canary.reason})")
    try:
        await context.gateway.store.check()
    except StateUnavailableError:
        reasons.append("the state store does not answer")
    return reasons
