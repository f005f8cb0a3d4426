"""`GET /v1/models` and `GET /v1/models/{id}`, for OpenAI's clients and for Anthropic's."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from app.api.replies import json_response
from app.context import caller_of, context_of
from app.serving import OfferedModel

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> Response:
    """Return all models that this gateway offers to the caller, as its SDK knows lists."""
    scopes = caller_of(request.scope).scopes
    models = context_of(request.scope).gateway.engine.models.values()
    offered = [_describe(request, model) for model in models if scopes.allow_model(model.id)]
    if not _is_anthropic(request):
        return json_response({"object": "list", "data": offered})
    ids = [model["id"] for model in offered]
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return json_response({"data": offered, "has_more": False, **ends})


@router.get("/v1/models/{model_id:path}")
async def show_model(request: Request, model_id: str) -> Response:
    """Return one model."""
    model = context_of(request.scope).gateway.engine.model(model_id)
    caller_of(request.scope).check_model(model.id)
    return json_response(_describe(request, model))


def _is_anthropic(request: Request) -> bool:
    """Both SDKs list models at the same path; only Anthropic's sends its version."""
    return "anthropic-version" in request.headers


def _describe(request: Request, model: OfferedModel) -> dict[str, object]:
    if _is_anthropic(request):
        created_at = datetime.fromtimestamp(int(model.created_at), UTC)
        return {
            "type": "model",
            "id": model.id,
            "display_name": f"{model.id} (demo)" if model.is_demo else model.id,
            "created_at": created_at.isoformat().replace("+00:00", "Z"),
            "max_input_tokens": model.facts.max_positions,
        }
    return {
        "id": model.id,
        "object": "model",
        "created": int(model.created_at),
        "owned_by": "swarmgate",
        "is_demo": model.is_demo,
        "max_model_len": model.facts.max_positions,
    }
