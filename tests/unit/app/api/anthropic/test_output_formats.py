"""Texts of messages that fit a schema, as the `anthropic` SDK asks for them."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from tests.harness.scripted_engine import ScriptedEngine, http_client
from tests.unit.app.api.sdk import anthropic_sdk

PATH = "/v1/messages"
BODY: Any = {
    "model": "demo",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "Hi"}],
}
SCHEMA: Any = {"type": "object", "properties": {"total": {"type": "integer"}}}


class Sum(BaseModel):
    """What is asked for."""

    total: int


async def test_sdk_parses_what_a_model_of_pydantic_asks_for() -> None:
    """Its schema is the constraint; whole and as a stream."""
    engine = ScriptedEngine('{"total": 3}')
    async with anthropic_sdk(engine) as client:
        whole = await client.messages.parse(**BODY, output_format=Sum)
        engine.script = '{"total": 4}'
        async with client.messages.stream(**BODY, output_format=Sum) as stream:
            streamed = await stream.get_final_message()

    assert whole.parsed_output == Sum(total=3)
    assert streamed.parsed_output == Sum(total=4)
    for request in engine.requests:
        assert request.constraint is not None
        assert request.constraint.kind == "json_schema"
        assert json.loads(request.constraint.text)["required"] == ["total"]


@pytest.mark.parametrize(
    ("config", "code", "param"),
    [
        ({"effort": ""}, "bad_request", "output_config.effort"),
        ({"format": {"type": "json_schema"}}, "bad_request", "output_config.format.schema"),
        ({"format": {"type": "xml"}}, "bad_request", "output_config.format.type"),
    ],
)
async def test_what_cannot_be_is_refused(config: Any, code: str, param: str) -> None:
    """With the field that has to be changed."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, json={**BODY, "output_config": config})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, code)
    assert param in error["message"]


async def test_what_asks_for_nothing_special_is_taken() -> None:
    """Clients send the defaults along."""
    engine = ScriptedEngine("Yes.")
    async with http_client(engine) as client:
        for config in ({}, None, {"format": None, "effort": None}):
            answer = await client.post(PATH, json={**BODY, "output_config": config})
            assert answer.status_code == 200

    assert [request.constraint for request in engine.requests] == [None] * 3
