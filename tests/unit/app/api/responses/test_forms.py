"""The form of responses, as the `openai` SDK sees it: schemas, and calls of tools."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from app.inference.chat_templates import ChatStyle
from app.inference.requests import ChatMessage, ChatTool, ChatToolCall, OutputConstraint
from tests.harness.scripted_engine import ScriptedEngine, http_client
from tests.unit.app.api.sdk import openai_sdk

PATH = "/v1/responses"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL: Any = {"type": "function", "name": "add", "parameters": SCHEMA, "strict": False}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
ASK: Any = {"model": "demo", "input": "Hi"}


class Sum(BaseModel):
    """What is asked for."""

    total: int


async def test_sdk_parses_what_a_model_of_pydantic_asks_for() -> None:
    """Its schema is the constraint, and the response says so; kept, it is the same."""
    engine = ScriptedEngine('{"total": 3}')
    async with openai_sdk(engine) as client:
        response = await client.responses.parse(**ASK, text_format=Sum)
        kept = await client.responses.retrieve(response.id)

    assert response.output_parsed == Sum(total=3)
    constraint = engine.requests[0].constraint
    assert constraint is not None
    assert (constraint.kind, json.loads(constraint.text)["required"]) == ("json_schema", ["total"])
    assert response.text is not None
    assert response.text.format is not None
    assert (response.text.format.type, kept.text) == ("json_schema", response.text)


async def test_sdk_streams_what_a_model_of_pydantic_asks_for() -> None:
    """The last event has it parsed."""
    async with (
        openai_sdk(ScriptedEngine('{"total": 3}')) as client,
        client.responses.stream(**ASK, text_format=Sum) as stream,
    ):
        response = await stream.get_final_response()

    assert response.output_parsed == Sum(total=3)


async def test_sdk_gets_calls_of_tools() -> None:
    """As items behind the message; whole, kept and streamed are the same."""
    engine = ScriptedEngine(f"So. {CALL}")
    async with openai_sdk(engine) as client:
        whole = await client.responses.create(**ASK, tools=[TOOL])
        kept = await client.responses.retrieve(whole.id)
        engine.script = f"So. {CALL}"
        async with client.responses.stream(**ASK, tools=[TOOL]) as stream:
            streamed = await stream.get_final_response()

    assert kept == whole
    responses: list[Any] = [whole, streamed]  # the SDK has a class for each
    for response in responses:
        message, call = response.output
        assert message.type == "message"
        assert response.output_text == "So."
        assert call.type == "function_call"
        assert (call.name, json.loads(call.arguments)) == ("add", {"a": 1})
        assert call.call_id.startswith("call_")
        (tool,) = response.tools
        assert (tool.type, response.tool_choice) == ("function", "auto")


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (f"So. {CALL} And {CALL} done.", ["message", "function_call"] * 2 + ["message"]),
        (f"<think>Hm.</think>{CALL}", ["reasoning", "function_call"]),
        ("<think>Hm.", ["reasoning"]),
        ("", ["message"]),
    ],
)
async def test_items_are_in_the_order_in_which_they_were_said(text: str, kinds: list[str]) -> None:
    """Whole, kept, and as the events of a stream add up."""
    engine = ScriptedEngine(text)
    engine.demo.chat_style = ChatStyle(has_reasoning=True)
    outputs = []
    async with http_client(engine) as client:
        for is_streamed in (False, True):
            engine.script = text
            body = {**ASK, "tools": [TOOL], "stream": is_streamed}
            answer = (await client.post(PATH, json=body)).text
            response = json.loads(answer.rpartition("data: ")[2])
            response = response.get("response", response)
            kept = (await client.get(f"{PATH}/{response['id']}")).json()
            outputs += [response["output"], kept["output"]]
            details = response["usage"]["output_tokens_details"]
            assert details == kept["usage"]["output_tokens_details"]
            assert (details["reasoning_tokens"] > 0) == text.startswith("<think>")

    assert [item["type"] for item in outputs[0]] == kinds
    shapes = [[_without_id(item) for item in output] for output in outputs]
    assert shapes == [shapes[0]] * 4


def _without_id(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in ("id", "call_id")}


async def test_sdk_streams_arguments_as_they_are_made() -> None:
    """The item first, then pieces of its arguments, then all of it."""
    async with openai_sdk(ScriptedEngine(CALL)) as client:
        stream = await client.responses.create(**ASK, tools=[TOOL], stream=True)
        events: list[Any] = [event async for event in stream]

    kinds = [event.type.removeprefix("response.") for event in events]
    deltas = [event for event in events if event.type.endswith("arguments.delta")]
    assert kinds[:3] == ["created", "in_progress", "output_item.added"]
    assert kinds[-3:] == ["function_call_arguments.done", "output_item.done", "completed"]
    assert len(deltas) > 3
    done = events[-3]
    assert "".join(event.delta for event in deltas) == done.arguments == '{"a": 1}'
    assert {event.item_id for event in deltas} == {done.item_id, events[-2].item.id}


async def test_a_loop_of_calls_and_results_goes_on_by_items_or_by_id() -> None:
    """The two ways that the SDK's documentation shows come to the same messages."""
    messages = (
        ChatMessage("user", "Hi"),
        ChatMessage("assistant", "", (ChatToolCall("?", "add", '{"a": 1}'),)),
        ChatMessage("tool", "2", tool_call_id="?"),
    )
    engine = ScriptedEngine(CALL)
    async with openai_sdk(engine) as client:
        first = await client.responses.create(**ASK, tools=[TOOL])
        output: list[Any] = first.output
        (call,) = output
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "2"}
        seen = []
        ways: list[Any] = [
            {"input": [{"role": "user", "content": "Hi"}, *output, result]},
            {"input": [result], "previous_response_id": first.id},
        ]
        for more in ways:
            engine.script = "Two."
            answer = await client.responses.create(model="demo", tools=[TOOL], **more)
            seen.append(list(engine.demo.messages))
            assert answer.output_text == "Two."

    assert seen[0] == seen[1]
    assert [_without_ids(message) for message in seen[0]] == list(messages)
    assert engine.demo.tools == (ChatTool("add", "", SCHEMA),)


def _without_ids(message: ChatMessage) -> ChatMessage:
    calls = tuple(ChatToolCall("?", call.name, call.arguments) for call in message.tool_calls)
    call_id = message.tool_call_id and "?"
    return ChatMessage(message.role, message.content, calls, call_id)


async def test_a_forced_call_is_a_constraint_and_is_told() -> None:
    """Of the named tool alone."""
    engine = ScriptedEngine(CALL)
    chosen = {"type": "function", "name": "add"}
    body = {**ASK, "tools": [TOOL, {**TOOL, "name": "other"}], "tool_choice": chosen}
    async with http_client(engine) as client:
        response = (await client.post(PATH, json=body)).json()

    constraint = engine.requests[0].constraint
    assert constraint is not None
    assert '\\"add\\"' in constraint.text
    assert "other" not in constraint.text
    assert response["tool_choice"] == chosen


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"text": {"format": {"type": "text"}, "verbosity": "medium"}}, None),
        ({"text": {"format": {"type": "json_object"}}}, OutputConstraint("json_object")),
        ({"text": {}, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, None),
    ],
)
async def test_what_asks_for_nothing_special_is_taken(
    fields: dict[str, Any], constraint: OutputConstraint | None
) -> None:
    """Clients send the defaults along."""
    engine = ScriptedEngine("{}")
    async with http_client(engine) as client:
        answer = await client.post(PATH, json={**ASK, **fields})

    assert answer.status_code == 200
    assert "x-swarmgate-ignored" not in answer.headers
    assert engine.requests[0].constraint == constraint


async def test_advice_that_a_model_cannot_follow_is_named() -> None:
    """Coding assistants send it with every request."""
    fields = {
        "reasoning": {"effort": "high", "summary": "auto"},
        "text": {"verbosity": "low"},
        "truncation": "auto",
    }
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, json={**ASK, **fields})

    assert answer.status_code == 200
    assert answer.headers["x-swarmgate-ignored"] == (
        "reasoning.effort, reasoning.summary, text.verbosity, truncation"
    )


async def test_an_effort_reaches_a_template_that_knows_it() -> None:
    """None at all is a wish not to think."""
    engine = ScriptedEngine()
    engine.demo.chat_style = ChatStyle(template_words=frozenset({"reasoning_effort"}))
    async with http_client(engine) as client:
        low = await client.post(PATH, json={**ASK, "reasoning": {"effort": "low"}})
        wishes = engine.demo.prompt_wishes
        await client.post(PATH, json={**ASK, "reasoning": {"effort": "none"}})

    assert "x-swarmgate-ignored" not in low.headers
    assert (wishes.effort, wishes.thinks) == ("low", None)
    assert engine.demo.prompt_wishes.thinks is False


@pytest.mark.parametrize("mode", ["auto", "required"])
async def test_only_some_of_the_tools_may_be_allowed(mode: str) -> None:
    """The model hears of no others."""
    engine = ScriptedEngine("x")
    other = {**TOOL, "name": "other"}
    chosen = {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": "add"}]}
    async with http_client(engine) as client:
        answer = await client.post(
            PATH, json={**ASK, "tools": [other, TOOL], "tool_choice": chosen}
        )

    assert answer.json()["tool_choice"] == chosen
    assert [tool.name for tool in engine.demo.tools] == ["add"]
    assert (engine.requests[0].constraint is not None) == (mode == "required")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"text": {"verbosity": "mute"}}, "bad_request", "text.verbosity"),
        ({"text": {"format": {"type": "xml"}}}, "bad_request", "text.format.type"),
        ({"text": {"format": {"type": "json_schema"}}}, "bad_request", "text.format.schema"),
        ({"tools": [{"type": "web_search"}]}, "bad_request", "tools.0.type"),
        ({"tools": [TOOL, TOOL]}, "bad_request", "tools"),
        ({"tool_choice": "required"}, "bad_request", "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "name": "sub"}},
            "bad_request",
            "tool_choice",
        ),
    ],
)
async def test_what_cannot_be_is_refused(fields: dict[str, Any], code: str, param: str) -> None:
    """With the field that has to be changed."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, json={**ASK, **fields})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
