import json
from typing import Any

import pytest

from app.inference.requests import ChatMessage, ChatTool, ChatToolCall
from tests.harness.scripted_engine import ScriptedEngine, http_client
from tests.unit.app.api.sdk import anthropic_sdk

PATH = "/v1/messages"
BODY: dict[str, Any] = {
    "model": "demo",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "Hi"}],
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL: Any = {"name": "add", "description": "Adds.", "input_schema": SCHEMA}
CALL = 'So. <tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


async def test_sdk_gets_calls_of_tools() -> None:
    """As blocks behind the text, whole and as a stream."""
    async with anthropic_sdk(ScriptedEngine(CALL * 2)) as client:
        whole = await client.messages.create(**BODY | {"max_tokens": len(CALL)}, tools=[TOOL])
        async with client.messages.stream(**BODY, tools=[TOOL]) as stream:
            streamed = await stream.get_final_message()

    messages: list[Any] = [whole, streamed]  # the SDK has a class for each
    for message in messages:
        assert message.stop_reason in ("tool_use", "max_tokens")
        text, call = message.content
        assert (text.type, getattr(text, "text", "")) == ("text", "So.")
        assert call.type == "tool_use"
        assert (call.name, call.input) == ("add", {"a": 1})


async def test_blocks_are_in_the_order_in_which_they_were_said() -> None:
    """Whole as in a stream; a stop text is looked for at the very end."""
    text = f"{CALL} And.{CALL} Done!"
    engine = ScriptedEngine(text)
    body: Any = {**BODY, "max_tokens": 400, "stop_sequences": ["!"], "tools": [TOOL]}
    async with anthropic_sdk(engine) as client:
        whole = await client.messages.create(**body)
        engine.script = text
        async with client.messages.stream(**body) as stream:
            streamed = await stream.get_final_message()

    messages: list[Any] = [whole, streamed]
    for message in messages:
        kinds = [block.type for block in message.content]
        assert kinds[:4] == ["text", "tool_use", "text", "tool_use"]
        assert message.stop_sequence == "!"


async def test_calls_and_results_reach_the_template() -> None:
    """A result is a message of its own, in front of what the user says beside it."""
    messages = [
        *BODY["messages"],
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "So."},
                {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "2"},
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    engine = ScriptedEngine("Two.")
    async with http_client(engine) as client:
        answer = await client.post(PATH, json={**BODY, "messages": messages, "tools": [TOOL]})

    assert answer.status_code == 200
    assert engine.demo.tools == (ChatTool("add", "Adds.", SCHEMA),)
    assert list(engine.demo.messages[1:]) == [
        ChatMessage("assistant", "So.", (ChatToolCall("c1", "add", '{"a": 1}'),)),
        ChatMessage("tool", "2", tool_call_id="c1"),
        ChatMessage("user", "And?"),
    ]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "add"}])
async def test_a_forced_call_is_a_constraint(choice: dict[str, str]) -> None:
    """In the model's style."""
    engine = ScriptedEngine(CALL)
    async with http_client(engine) as client:
        await client.post(PATH, json={**BODY, "tools": [TOOL], "tool_choice": choice})

    constraint = engine.requests[0].constraint
    assert constraint is not None
    assert json.dumps('{"name": "add", "arguments": ') in constraint.text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "sub"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [{"type": "web_search_20250305", "name": "web"}]}, "tools.0.type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "messages.0.content",
        ),
    ],
)
async def test_wishes_that_make_no_sense_are_named(changes: dict[str, Any], named: str) -> None:
    """Anthropic's own tools among them: they run at Anthropic."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, json={**BODY, **changes})

    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(named)
