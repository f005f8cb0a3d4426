"""`/api/v1/admin/keys`: make, list, rotate and revoke keys. `app.access` asks for an admin key."""

from typing import TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.bodies import parse_json_object, validate
from app.api.replies import json_response
from app.context import context_of
from app.keys.errors import KeysNotStoredError
from app.keys.facts import key_facts, new_key_facts
from app.keys.registry import MAX_GRACE_S, KeyDraft, KeyRegistry

router = APIRouter(prefix="/api/v1/admin/keys")
Model = TypeVar("Model", bound=BaseModel)


class KeyRotation(BaseModel):
    """How a key is replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grace_s: int = Field(default=0, ge=0, le=MAX_GRACE_S)


@router.post("")
async def create_key(request: Request) -> Response:
    """Make a key; its text is in this answer only."""
    draft = await _read(request, KeyDraft)
    return json_response(new_key_facts(await _registry(request).create(draft)), status=201)


@router.get("")
async def list_keys(request: Request) -> Response:
    """Return all keys, oldest first, without secrets."""
    records = await _registry(request).find_all()
    return json_response({"keys": [key_facts(record) for record in records]})


@router.get("/{key_id}")
async def show_key(request: Request, key_id: str) -> Response:
    """Return one key."""
    return json_response(key_facts(await _registry(request).find(key_id)))


@router.delete("/{key_id}")
async def revoke_key(request: Request, key_id: str) -> Response:
    """End a key."""
    return json_response(key_facts(await _registry(request).revoke(key_id)))


@router.post("/{key_id}/rotate")
async def rotate_key(request: Request, key_id: str) -> Response:
    """Give a key a new secret; the answer has its text."""
    rotation = await _read(request, KeyRotation)
    new = await _registry(request).rotate(key_id, grace_s=rotation.grace_s)
    return json_response(new_key_facts(new))


async def _read(request: Request, model: type[Model]) -> Model:
    """Return the body; an empty one is an empty object."""
    body = await request.body()
    return validate(model, parse_json_object(body) if body else {})


def _registry(request: Request) -> KeyRegistry:
    registry = context_of(request.scope).keys
    if registry is None:
        raise KeysNotStoredError
    return registry
