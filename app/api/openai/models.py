"""`GET /v1/models` and `GET /v1/models/{id}`."""

from fastapi import APIRouter, Request, Response

from app.api.replies import json_response
from app.context import caller_of, context_of
from app.serving import OfferedModel

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> Response:
    """Return all models that this gateway offers to the caller."""
    scopes = caller_of(request.scope).scopes
    models = context_of(request.scope).gateway.engine.models.values()
    offered = [_describe(model) for model in models if scopes.allow_model(model.id)]
    return json_response({"object": "list", "data": offered})


@router.get("/v1/models/{model_id:path}")
async def show_model(request: Request, model_id: str) -> Response:
    """Return one model."""
    model = context_of(request.scope).gateway.engine.model(model_id)
    caller_of(request.scope).check_model(model.id)
    return json_response(_describe(model))


def _describe(model: OfferedModel) -> dict[str, object]:
    return {
        "id": model.id,
        "object": "model",
        "created": int(model.created_at),
        "owned_by": "swarmgate",
        "is_demo": model.is_demo,
        "max_model_len": model.facts.max_positions,
    }
