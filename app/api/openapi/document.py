"""Builds the OpenAPI 3.1 document, once per process, and serves it."""

import re
from collections import defaultdict
from functools import cache
from typing import Final

import orjson
from fastapi import APIRouter, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.access import access_to
from app.api.anthropic.errors import is_anthropic
from app.api.openapi.operations import OPERATIONS, Operation
from app.api.openapi.schemas import SCHEMAS, TEXT, Schema
from app.errors.rules import INTERNAL, RULES

router = APIRouter()

_REFERENCES: Final = "#/components/schemas/"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_FORMS: Final = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")


@router.get("/openapi.json")
async def show_document() -> Response:
    """Return the document; it is public, and the same for everybody."""
    return Response(_encoded(), media_type="application/json")


@cache
def _encoded() -> bytes:
    return orjson.dumps(openapi_document())


def openapi_document() -> Schema:
    """Return the document, as values of JSON."""
    paths: defaultdict[str, Schema] = defaultdict(dict)
    for operation in OPERATIONS:
        paths[operation.path][operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "swarmgate",
            "version": "1",
            "description": (
                "A large language model spread over many machines. Conversations over WebSocket "
                "(`/api/v2/generate`) are not described here; see the guide."
            ),
        },
        "paths": dict(paths),
        "components": {
            "schemas": {**SCHEMAS, **_body_schemas()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _body_schemas() -> dict[str, Schema]:
    models: list[type[BaseModel]] = [each.body for each in OPERATIONS if each.body is not None]
    _, schema = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)],
        ref_template=_REFERENCES + "{model}",
    )
    definitions: dict[str, Schema] = schema["$defs"]
    return definitions


def _operation(operation: Operation) -> Schema:
    access = access_to(operation.path)
    place = re.sub(r"[^a-z0-9]+", "_", operation.path).strip("_")
    described: Schema = {
        "operationId": f"{operation.method}_{place}",
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": [] if access.is_public else [{"bearer": []}, {"x-api-key": []}, {}],
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": {**_errors(operation), str(operation.status): _reply(operation)},
    }
    if operation.body is not None:
        schema = _reference(operation.body.__name__)
        media_types = _FORMS if operation.takes_forms else _FORMS[:1]
        described["requestBody"] = {
            "required": not operation.body_is_optional,
            "content": {media_type: {"schema": schema} for media_type in media_types},
        }
    return described


def _path_parameters(operation: Operation) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": TEXT}
        for name in _PARAMETER.findall(operation.path)
    ]


def _query_parameters(operation: Operation) -> list[Schema]:
    if operation.query is None:
        return []
    properties = operation.query.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "schema": each} for name, each in properties.items()]


def _reply(operation: Operation) -> Schema:
    if operation.reply is None:
        return {"description": "Done; there is nothing to say."}
    content: Schema = {operation.media_type: {"schema": _reference(operation.reply)}}
    if operation.is_streamed:
        content["text/event-stream"] = {"schema": TEXT}
    elif operation.media_type != "application/json":
        content = {operation.media_type: {"schema": TEXT}}
    return {"description": "As asked.", "content": content}


def _errors(operation: Operation) -> dict[str, Schema]:
    """Return an answer for every status that an error can have, with the codes behind it."""
    codes: defaultdict[int, list[str]] = defaultdict(list)
    for code, rule in RULES.items():
        codes[rule.http_status].append(code)
    codes[INTERNAL.http_status].append("internal_error")
    name = "AnthropicError" if is_anthropic(operation.path) else "OpenAIError"
    if operation.takes_forms:
        name = "PetalsError"
    if operation.path == "/health/ready":
        name = "Object"
    answers: dict[str, Schema] = {
        str(status): {
            "description": ", ".join(f"`{code}`" for code in sorted(codes[status])),
            "content": {"application/json": {"schema": _reference(name)}},
        }
        for status in sorted(codes)
    }
    if operation.method == "get" and operation.is_streamed:
        answers["204"] = {"description": "There is nothing more."}
    return answers


def _reference(name: str) -> Schema:
    return {"$ref": _REFERENCES + name}
