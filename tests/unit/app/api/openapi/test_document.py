"""The OpenAPI document against the app it describes."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import SecretStr
from starlette.routing import Route

from app.api.openapi.document import openapi_document
from app.settings import Settings
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app

DOCUMENT: Any = openapi_document()
PAGES = {"/", "/swarm", "/static/{path:path}"}
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def routes_of(routes: Iterable[object]) -> Iterator[tuple[str, str]]:
    """Return all HTTP routes but those of the page; FastAPI nests those of its routers."""
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is not None:
            yield from routes_of(router.routes)
        elif isinstance(route, Route) and route.path not in PAGES:
            for method in (route.methods or set()) - {"HEAD"}:
                yield method.lower(), route.path.replace(":path}", "}")


async def test_it_describes_every_route_and_no_other() -> None:
    """Raw ASGI endpoints included; pages are for people."""
    async with running_app(ScriptedEngine()) as app:
        routes = set(routes_of(app.routes))

    described = {
        (method, path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    assert described == routes


async def test_it_is_public() -> None:
    """And FastAPI's pages around it are off."""
    settings = Settings(api_keys=(SecretStr("correct-key"),))
    async with http_client(ScriptedEngine(), settings) as client:
        answer = await client.get("/openapi.json")
        pages = [(await client.get(path)).status_code for path in ("/docs", "/redoc")]

    assert answer.json() == DOCUMENT
    assert 200 not in pages


def test_every_reference_leads_somewhere() -> None:
    """And every schema is one."""
    known = DOCUMENT["components"]["schemas"]
    for schema in known.values():
        Draft202012Validator.check_schema(schema)

    assert set(references(DOCUMENT)) <= {f"#/components/schemas/{name}" for name in known}


def references(value: Any) -> list[str]:
    """Return all references inside of a value."""
    if isinstance(value, list):
        return [each for item in value for each in references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [each for item in value.values() for each in references(item)]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", CHAT, "200"),
        ("/v1/chat/completions", {**CHAT, "n": 2, "logprobs": True, "top_logprobs": 1}, "200"),
        ("/v1/chat/completions", {**CHAT, "temperature": -1}, "400"),
        ("/v1/chat/completions", {**CHAT, "model": "other"}, "404"),
        ("/v1/chat/completions/render", CHAT, "200"),
        ("/v1/completions", {"model": "demo", "prompt": "Hi", "max_tokens": 2}, "200"),
        ("/v1/responses", {"model": "demo", "input": "Hi"}, "200"),
        ("/v1/embeddings", {"model": "demo", "input": "Hi"}, "200"),
        ("/v1/messages", CHAT, "200"),
        ("/v1/messages", {**CHAT, "max_tokens": 0}, "400"),
        ("/v1/messages/count_tokens", CHAT, "200"),
        ("/tokenize", {"model": "demo", "prompt": "Hi"}, "200"),
        ("/detokenize", {"model": "demo", "tokens": [5]}, "200"),
        ("/api/v1/generate", {"model": "demo", "inputs": "Hi", "max_new_tokens": 2}, "200"),
        ("/api/v1/generate", {"model": "demo"}, "200"),
    ],
)
async def test_answers_are_as_described(path: str, body: dict[str, Any], status: str) -> None:
    """So are errors, each in its surface's form."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(path, json=body)

    assert str(answer.status_code) == status
    described = DOCUMENT["paths"][path]["post"]["responses"][status]
    schema = described["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(answer.json())


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/demo", "/api/v1/swarm"])
async def test_facts_are_as_described(path: str) -> None:
    """For those who only look."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.get(path)

    described = DOCUMENT["paths"][path.replace("/demo", "/{model_id}")]["get"]["responses"]["200"]
    schema = described["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(answer.json())
