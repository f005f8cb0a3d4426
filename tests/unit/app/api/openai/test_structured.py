import json
from typing import Any

import pytest

from app.inference.chat_templates import ChatStyle
from app.inference.requests import ChatMessage, ChatTool, OutputConstraint
from tests.harness.scripted_engine import ScriptedEngine, http_client
from tests.unit.app.api.sdk import openai_sdk

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
BODY: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL: Any = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
CALL = 'So. <tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, OutputConstraint("json_object")),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
                }
            },
            OutputConstraint("json_schema", json.dumps(SCHEMA)),
        ),
        ({"guided_json": "{}"}, OutputConstraint("json_schema", "{}")),
        ({"guided_regex": "a+"}, OutputConstraint("regex", "a+")),
        ({"guided_choice": ["a", "b"]}, OutputConstraint("choice", '["a", "b"]')),
        ({"guided_grammar": "start: X"}, OutputConstraint("grammar", "start: X")),
        ({"structured_outputs": {"regex": "a"}}, OutputConstraint("regex", "a")),
        (
            {"structured_outputs": {"json": SCHEMA}},
            OutputConstraint("json_schema", json.dumps(SCHEMA)),
        ),
    ],
)
async def test_constraints_have_several_names(
    fields: dict[str, Any], constraint: OutputConstraint | None
) -> None:
    """OpenAI's and vLLM's, in both dialects; each is compiled before the answer begins."""
    engine = ScriptedEngine("{}")
    async with http_client(engine) as client:
        chat = await client.post(CHAT, json={**BODY, **fields})
        text = await client.post(TEXT, json={"model": "demo", "prompt": "Hi", **fields})

    assert (chat.status_code, text.status_code) == (200, 200)
    assert [request.constraint for request in engine.requests] == [constraint] * 2
    assert len(engine.demo.constraints) == (0 if constraint is None else 2)


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_constraint_that_cannot_be_kept_is_an_answer_of_400(is_streamed: bool) -> None:
    """Before anything of the answer is sent."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(CHAT, json={**BODY, "guided_regex": "(", "stream": is_streamed})

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_grammar"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_regex"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "sub"}}},
            "tool_choice",
        ),
        ({"tools": [TOOL], "guided_regex": "a"}, "tools"),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]},
            "messages.0.tool_calls.0.id",
        ),
    ],
)
async def test_wishes_that_make_no_sense_are_named(fields: dict[str, Any], param: str) -> None:
    """With the field that has to be changed."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(CHAT, json={**BODY, **fields})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_calls_and_their_results_reach_the_template() -> None:
    """An assistant that calls tools may have nothing to say."""
    called = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        *BODY["messages"],
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    engine = ScriptedEngine("Two.")
    async with http_client(engine) as client:
        answer = await client.post(CHAT, json={**BODY, "messages": messages, "tools": [TOOL]})

    assert answer.json()["choices"][0]["message"]["content"] == "Two."
    assert engine.demo.tools == (ChatTool("add", "", SCHEMA),)
    assert engine.demo.messages[2] == ChatMessage("tool", "2", tool_call_id="c1")


async def test_sdk_gets_calls_of_tools() -> None:
    """Beside what is said; the finish reason is theirs."""
    async with openai_sdk(ScriptedEngine(CALL)) as client:
        answer = await client.chat.completions.create(**BODY, tools=[TOOL])

    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "So."
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 1})


async def test_sdk_streams_calls_of_tools() -> None:
    """The SDK's own accumulator puts them together."""
    async with (
        openai_sdk(ScriptedEngine(CALL)) as client,
        client.chat.completions.stream(**BODY, tools=[TOOL]) as stream,
    ):
        events = [event async for event in stream]
        answer = await stream.get_final_completion()

    deltas = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    assert len(deltas) > 3
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 1})


async def test_without_tools_a_mark_is_text() -> None:
    """Nobody who has asked for no call gets one; nor with the choice `none`."""
    for fields in ({}, {"tools": [TOOL], "tool_choice": "none"}):
        async with http_client(ScriptedEngine(CALL)) as client:
            answer = (await client.post(CHAT, json={**BODY, **fields})).json()
        assert answer["choices"][0]["message"]["content"] == CALL


async def test_a_forced_call_is_a_constraint() -> None:
    """Of the named tool alone, in the model's style."""
    other = {"type": "function", "function": {"name": "other"}}
    named = {"type": "function", "function": {"name": "add"}}
    engine = ScriptedEngine(CALL)
    async with http_client(engine) as client:
        await client.post(CHAT, json={**BODY, "tools": [TOOL, other], "tool_choice": named})

    constraint = engine.requests[0].constraint
    assert constraint is not None
    assert '\\"add\\"' in constraint.text
    assert "other" not in constraint.text
    assert "<tool_call>" in constraint.text


async def test_values_in_tags_are_what_the_tool_says_they_are() -> None:
    """A text that looks like a number is one, and a number is none."""
    properties = {"a": {"type": "integer"}, "b": {"type": "string"}}
    tool: Any = {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": properties}},
    }
    values = "<parameter=a>\n1\n</parameter>\n<parameter=b>\n2\n</parameter>\n"
    tagged = f"<tool_call>\n<function=add>\n{values}</function>\n</tool_call>"
    engine = ScriptedEngine(tagged)
    engine.demo.chat_style = ChatStyle("qwen_coder")
    async with openai_sdk(engine) as client:
        chosen = await client.chat.completions.create(**BODY, tools=[tool])
        engine.script = CALL  # what a grammar holds to a schema is JSON
        forced = await client.chat.completions.create(**BODY, tools=[tool], tool_choice="required")

    found = []
    for answer in (chosen, forced):
        (made,) = answer.choices[0].message.tool_calls or []
        assert made.type == "function"
        found.append(json.loads(made.function.arguments))
    assert found == [{"a": 1, "b": "2"}, {"a": 1}]


async def test_a_form_beside_tools_is_that_of_answers_without_calls() -> None:
    """Where a call must be, there is no such answer."""
    form = {"response_format": {"type": "json_object"}, "tools": [TOOL]}
    engine = ScriptedEngine('{"b": 2}' + CALL)
    async with http_client(engine) as client:
        answer = (await client.post(CHAT, json={**BODY, **form, "max_tokens": 8})).json()
        call = (await client.post(CHAT, json={**BODY, **form, "tool_choice": "required"})).json()

    assert answer["choices"][0]["message"]["content"] == '{"b": 2}'
    assert call["choices"][0]["finish_reason"] == "tool_calls"
    both, forced = (request.constraint for request in engine.requests)
    assert both is not None
    assert forced is not None
    assert "start: calls | answer" in both.text
    assert "answer" not in forced.text


async def test_reasoning_is_told_apart() -> None:
    """Where the model's template marks it; whole and as a stream."""
    text = "<think>\nHm.\n</think>\n\nYes."
    engine = ScriptedEngine(text * 2)
    engine.demo.chat_style = ChatStyle(has_reasoning=True)
    async with http_client(engine) as client:
        whole = (await client.post(CHAT, json={**BODY, "max_tokens": len(text)})).json()
        stream = await client.post(CHAT, json={**BODY, "max_tokens": len(text), "stream": True})

    message = whole["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Yes.", "Hm.")
    details = whole["usage"]["completion_tokens_details"]
    assert details == {"reasoning_tokens": text.index("Yes.")}
    lines = [line[6:] for line in stream.text.splitlines() if line.startswith("data: {")]
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Yes."
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Hm."


async def test_reasoning_that_the_prompt_began_is_ended_for_constrained_answers() -> None:
    """What must be JSON has no place for thoughts."""
    engine = ScriptedEngine("{}" * 2)
    engine.demo.chat_style = ChatStyle(has_reasoning=True)
    body = {**BODY, "messages": [{"role": "user", "content": "Hi<think>\n"}], "max_tokens": 2}
    async with http_client(engine) as client:
        free = (await client.post(CHAT, json=body)).json()
        bound = (await client.post(CHAT, json={**body, "guided_json": SCHEMA})).json()

    assert free["choices"][0]["message"]["reasoning_content"] == "{}"
    assert bound["choices"][0]["message"]["content"] == "{}"
    assert bytes(engine.requests[1].prompt_ids).endswith(b"<think>\n\n</think>\n\n")


async def test_reasoning_that_the_prompt_began_is_ended_for_who_wants_none() -> None:
    """Of a model that always thinks, too."""
    engine = ScriptedEngine("Yes")
    engine.demo.chat_style = ChatStyle(has_reasoning=True)
    body = {**BODY, "messages": [{"role": "user", "content": "Hi<think>\n"}], "max_tokens": 3}
    async with http_client(engine) as client:
        answer = await client.post(CHAT, json={**body, "reasoning_effort": "none"})

    assert answer.json()["choices"][0]["message"]["content"] == "Yes"
    assert bytes(engine.requests[0].prompt_ids).endswith(b"<think>\n\n</think>\n\n")
    assert "x-swarmgate-ignored" not in answer.headers


async def test_a_choice_of_allowed_tools_leaves_out_the_others() -> None:
    """One that is not there is named."""
    engine = ScriptedEngine("x")
    tools = [{"type": "function", "function": {"name": name}} for name in ("add", "sub")]
    allowed = {"mode": "required", "tools": [tools[1]]}
    choice: dict[str, Any] = {"type": "allowed_tools", "allowed_tools": allowed}
    async with http_client(engine) as client:
        await client.post(CHAT, json={**BODY, "tools": tools, "tool_choice": choice})
        missing = await client.post(CHAT, json={**BODY, "tools": tools[:1], "tool_choice": choice})

    assert [tool.name for tool in engine.demo.tools] == ["sub"]
    assert missing.json()["error"]["message"] == "tool_choice: expected sub to be one of tools"
