"""`/api/v1/admin/models`: offer models and take them back while the gateway runs.

`app.access` asks for an admin key.
"""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.bodies import parse_json_object, validate
from app.api.replies import json_response
from app.context import context_of
from app.inference.errors import ModelsFixedError
from app.inference.served_model import ServedModel
from app.workers.offer import SharedOffer

router = APIRouter(prefix="/api/v1/admin/models")


class ModelAddition(BaseModel):
    """A model to offer: a directory, or `organization/name@revision` of the hub."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1, max_length=4096)
    dht_prefix: str | None = Field(default=None, min_length=1, max_length=200)


@router.get("")
async def list_models(request: Request) -> Response:
    """Return the models of this worker, and what their local parts take."""
    offer = _offer(request)
    memory = offer.engine.memory
    return json_response(
        {
            "models": [_facts(offer, model) for model in offer.engine.models.values()],
            "memory_bytes": memory.taken_bytes,
            "memory_budget_bytes": memory.max_bytes,
            "is_leading": offer.is_leading,
        }
    )


@router.post("")
async def add_model(request: Request) -> Response:
    """Load a model; this worker offers it from the answer on, the others a little later."""
    addition = validate(ModelAddition, parse_json_object(await request.body()))
    offer = _offer(request)
    model = await offer.add(addition.source, addition.dht_prefix)
    return json_response(_facts(offer, model), status=201)


@router.delete("/{model_id:path}")
async def remove_model(request: Request, model_id: str) -> Response:
    """Offer a model no more; what runs may end within the time to drain."""
    offer = _offer(request)
    model = await offer.remove(model_id)
    return json_response({**_facts(offer, model), "drain_s": offer.drain_s}, status=202)


def _offer(request: Request) -> SharedOffer:
    offer = context_of(request.scope).gateway.offer
    if offer is None:
        raise ModelsFixedError
    return offer


def _facts(offer: SharedOffer, model: ServedModel) -> dict[str, object]:
    return {
        "id": model.id,
        "source": model.facts.source,
        "dht_prefix": model.facts.dht_prefix,
        "memory_bytes": offer.engine.memory.bytes_of(model.id),
        "num_conversations": offer.engine.num_conversations(model.id),
        "is_reachable": not model.remote.missing_blocks(),
    }
