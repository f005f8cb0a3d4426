"""OpenAI's SDK gets structured output and calls of tools of a model that knows nothing."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from tests.harness.tiny_models import save_tiny_llama
from tests.integration.app.api.gateway import gateway_of
from tests.unit.app.api.sdk import openai_sdk_of

BODY: Final[Any] = {
    "model": "llama",
    "messages": [{"role": "user", "content": "Hi"}],
    "temperature": 1.5,
}
TOOL: Final[Any] = {
    "type": "function",
    "function": {
        "name": "forecast",
        "parameters": {
            "type": "object",
            "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["days"],
            "additionalProperties": False,
        },
    },
}


SKY: Final[Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "sky",
        "schema": {"type": "object", "properties": {"sky": {}}, "required": ["sky"]},
    },
}


class Weather(BaseModel, extra="forbid"):
    """What is asked for."""

    sky: Literal["blue", "grey"]
    degrees: int = Field(ge=-50, le=60)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with room for what tools take in bytes."""
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "llama", max_positions=2048)


@asynccontextmanager
async def sdk_of(model: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    async with gateway_of(model) as gateway, openai_sdk_of(gateway.app) as sdk:
        yield sdk


async def test_sdk_parses_what_a_schema_asks_for(model: Path) -> None:
    """For any seed, whole and as a stream."""
    async with sdk_of(model) as sdk:
        answers = [
            await sdk.chat.completions.parse(
                **BODY, seed=seed, response_format=Weather, max_tokens=200
            )
            for seed in range(4)
        ]
        async with sdk.chat.completions.stream(
            **BODY, seed=0, response_format=Weather, max_tokens=200
        ) as stream:
            streamed = await stream.get_final_completion()

    parsed = [answer.choices[0].message.parsed for answer in answers]
    assert all(isinstance(weather, Weather) for weather in parsed)
    assert streamed.choices[0].message.parsed == parsed[0]
    assert {answer.choices[0].finish_reason for answer in answers} == {"stop"}


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "forecast"}}]
)
async def test_sdk_gets_the_call_it_forces(model: Path, choice: Any) -> None:
    """Its arguments fit the tool's schema, whole and as a stream, and the stream says the same."""
    wishes = {"tools": [TOOL], "tool_choice": choice, "parallel_tool_calls": False, "seed": 2}
    async with sdk_of(model) as sdk:
        whole = await sdk.chat.completions.create(**BODY, **wishes)
        async with sdk.chat.completions.stream(**BODY, **wishes) as stream:
            streamed = await stream.get_final_completion()

    found = []
    for answer in (whole, streamed):
        assert answer.choices[0].finish_reason == "tool_calls"
        (call,) = answer.choices[0].message.tool_calls or [None]
        assert call is not None
        found.append((call.function.name, json.loads(call.function.arguments)))
    assert found[0] == found[1]
    assert found[0][0] == "forecast"
    assert 1 <= found[0][1]["days"] <= 9


async def test_responses_keep_to_schemas_and_tools(model: Path) -> None:
    """Parsed by the SDK, whole and as a stream; with tools beside it, the answer is either."""
    body: Any = {"model": "llama", "input": "Hi", "temperature": 1.5}
    tool: Any = {"type": "function", **TOOL["function"], "strict": True}
    async with sdk_of(model) as sdk:
        whole = await sdk.responses.parse(**body, text_format=Weather)
        async with sdk.responses.stream(**body, text_format=Weather) as stream:
            streamed = await stream.get_final_response()
        forced = await sdk.responses.create(
            **body, tools=[tool], tool_choice="required", parallel_tool_calls=False
        )
        either = [
            await sdk.responses.parse(
                **body, text_format=Weather, tools=[tool], extra_body={"seed": seed}
            )
            for seed in range(6)
        ]

    assert isinstance(whole.output_parsed, Weather)
    assert isinstance(streamed.output_parsed, Weather)
    for response in (forced, *either):
        items: list[Any] = response.output
        assert response.status == "completed"
        for item in items:
            if item.type == "function_call":
                assert (item.name, 1 <= json.loads(item.arguments)["days"] <= 9) == (
                    "forecast",
                    True,
                )
            else:
                Weather.model_validate_json(item.content[0].text)
    assert [item.type for item in forced.output] == ["function_call"]
    assert {item.type for response in either for item in response.output} == {
        "function_call",
        "message",
    }


async def test_an_answer_that_is_cut_off_says_so(model: Path) -> None:
    """What there is of the JSON, with the reason."""
    async with sdk_of(model) as sdk:
        answer = await sdk.chat.completions.create(**BODY, max_tokens=5, response_format=SKY)

    assert answer.choices[0].finish_reason == "length"
    assert (answer.choices[0].message.content or "").startswith("{")


async def test_a_hostile_schema_is_refused_while_others_are_served(model: Path) -> None:
    """It overflows the native stack of the compiler, in a process of its own."""
    links = {f"d{i}": {"items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(1500)}
    schema = {"$ref": "#/$defs/d0", "$defs": {**links, "d1500": {"type": "null"}}}
    hostile: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    async with sdk_of(model) as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.chat.completions.create(**BODY, response_format=hostile)
        answer = await sdk.chat.completions.create(
            **BODY, max_tokens=9, extra_body={"guided_choice": ["yes", "no"]}
        )

    assert caught.value.code == "grammar_too_large"
    assert answer.choices[0].message.content in ("yes", "no")
