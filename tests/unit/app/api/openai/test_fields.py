"""Fields of the OpenAI dialects, and what becomes of those that do not fit."""

from typing import Any

import pytest

from app.inference.chat_templates import ChatStyle
from app.settings import LimitSettings, Settings
from swarm_client.generation.parameters import SamplingParameters
from tests.harness.scripted_engine import ScriptedEngine, http_client

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}


async def test_content_may_be_text_parts_and_developer_is_a_system_role() -> None:
    """Parts are put together."""
    engine = ScriptedEngine()
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "s"}, {"role": "user", "content": parts}]
    async with http_client(engine) as client:
        answer = await client.post(CHAT, json={"model": "demo", "messages": messages})

    assert answer.status_code == 200
    assert engine.requests[0].prompt_ids == tuple(map(ord, "sab"))


@pytest.mark.parametrize(
    ("fields", "sampling"),
    [
        ({}, SamplingParameters(do_sample=True, temperature=0.7, top_p=0.9)),
        ({"temperature": 0}, SamplingParameters(temperature=0.7, top_p=0.9)),
        (
            {"temperature": 1.5, "seed": 7, "top_k": -1},
            SamplingParameters(do_sample=True, temperature=1.5, top_p=0.9, seed=7),
        ),
        (
            {"top_p": 0.5, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2},
            SamplingParameters(
                do_sample=True,
                temperature=0.7,
                top_p=0.5,
                top_k=5,
                min_p=0.1,
                repetition_penalty=1.2,
            ),
        ),
    ],
)
async def test_sampling_is_the_callers_and_else_the_models(
    fields: dict[str, object], sampling: SamplingParameters
) -> None:
    """The model's own defaults fill what the caller leaves open."""
    engine = ScriptedEngine()
    engine.demo.chat_defaults = SamplingParameters(do_sample=True, temperature=0.7, top_p=0.9)
    async with http_client(engine) as client:
        await client.post(CHAT, json={**BODY, **fields})

    assert engine.requests[0].sampling == sampling


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({}, 100),
    ],
)
async def test_maximum_has_two_names_and_a_default(fields: dict[str, int], expected: int) -> None:
    """The newer name wins."""
    engine = ScriptedEngine("a" * 500)
    settings = Settings(limits=LimitSettings(default_new_tokens=100))
    async with http_client(engine, settings) as client:
        await client.post(CHAT, json={**BODY, **fields})

    assert engine.requests[0].max_new_tokens == expected


@pytest.mark.parametrize(("stop", "texts"), [("l", ("l",)), (["lo", "e"], ("lo", "e"))])
async def test_stop_is_one_text_or_several(stop: object, texts: tuple[str, ...]) -> None:
    """They are cut off, which is the engine's part."""
    engine = ScriptedEngine()
    async with http_client(engine) as client:
        await client.post(CHAT, json={**BODY, "stop": stop})

    assert engine.requests[0].stop == texts
    assert not engine.requests[0].keeps_stop
    assert not engine.requests[0].keeps_special_tokens


async def test_fields_without_effect_are_named_in_a_header() -> None:
    """Names that could break the header are left out."""
    fields = {"user": "u", "store": False, "bad\r\nname": 1, "n": 1, "logit_bias": None}
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(CHAT, json={**BODY, **fields})

    assert answer.headers["x-swarmgate-ignored"] == "store, user"


@pytest.mark.parametrize(
    "field",
    [
        {"best_of": 2},
        {"functions": [{"name": "f"}]},
        {"min_tokens": 3},
        {"use_beam_search": True},
    ],
)
async def test_fields_that_would_change_the_answer_are_refused(field: dict[str, object]) -> None:
    """Ignoring them would be a wrong answer."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(CHAT, json={**BODY, **field})

    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["code"], error["param"]) == ("unsupported_field", next(iter(field)))


@pytest.mark.parametrize(
    ("changes", "param", "status"),
    [
        ({"model": "other"}, None, 404),
        ({"model": 5}, "model", 400),
        ({"messages": []}, "messages", 400),
        ({"messages": "Hi"}, "messages", 400),
        ({"messages": [{"role": "judge", "content": "x"}]}, "messages.0.role", 400),
        ({"messages": [{"role": "user"}]}, "messages.0.content", 400),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", 400),
        ({"messages": [{"role": "assistant", "content": "x"}]}, None, 400),
        ({"max_tokens": 0}, "max_tokens", 400),
        ({"max_tokens": -5}, "max_tokens", 400),
        ({"max_tokens": "5"}, "max_tokens", 400),
        ({"max_tokens": True}, "max_tokens", 400),
        ({"max_tokens": 600}, None, 400),
        ({"temperature": -1}, "temperature", 400),
        ({"temperature": 1e99}, "temperature", 400),
        ({"top_p": 0}, "top_p", 400),
        ({"seed": "x"}, "seed", 400),
        ({"stop": [""]}, "stop.0", 400),
        ({"stop": 5}, "stop", 400),
        ({"stream": "yes"}, "stream", 400),
        ({"stream_options": {"include_usage": 3}}, "stream_options.include_usage", 400),
    ],
)
async def test_bad_fields_are_named(
    changes: dict[str, object], param: str | None, status: int
) -> None:
    """The error is OpenAI's shape, with the status its clients act on."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(CHAT, json={**BODY, **changes})

    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"temperature": NaN}', b"\xff"])
async def test_broken_json_is_told(content: bytes) -> None:
    """Never more than one sentence."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(CHAT, content=content)

    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


async def test_a_caller_may_speak_to_the_template_and_begin_the_answer() -> None:
    """With vLLM's fields; a variable that the template does not have is named."""
    engine = ScriptedEngine("lo")
    engine.demo.chat_style = ChatStyle(template_words=frozenset({"enable_thinking"}))
    fields = {
        "messages": [*BODY["messages"], {"role": "assistant", "content": "Hel"}],
        "chat_template_kwargs": {"enable_thinking": False, "other": 1},
        "add_generation_prompt": False,
        "continue_final_message": True,
        "reasoning_effort": "high",
    }
    async with http_client(engine) as client:
        answer = await client.post(CHAT, json={**BODY, **fields})

    wishes = engine.demo.prompt_wishes
    assert answer.json()["choices"][0]["message"]["content"] == "lo"
    assert (wishes.variables, wishes.continues) == ({"enable_thinking": False, "other": 1}, True)
    assert answer.headers["x-swarmgate-ignored"] == "chat_template_kwargs.other, reasoning_effort"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"chat_template_kwargs": {"": 1} | dict.fromkeys(map(str, range(32)))}, "bad_request", ""),
        ({"add_generation_prompt": False}, "unsupported_field", "add_generation_prompt"),
        (
            {"add_generation_prompt": True, "continue_final_message": True},
            "bad_request",
            "add_generation_prompt",
        ),
        ({"chat_template": "{{ x }}"}, "unsupported_field", "chat_template"),
        ({"documents": [{"text": "x"}]}, "unsupported_field", "documents"),
        ({"tool_choice": {"type": "x"}}, "bad_request", "tool_choice"),
    ],
)
async def test_what_a_prompt_cannot_be_is_refused(
    fields: dict[str, Any], code: str, param: str
) -> None:
    """By the field that the caller wrote, whatever forms it might have had."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(CHAT, json={**BODY, **fields})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, code)
    assert error["param"] == param or error["message"].startswith("chat_template_kwargs: ")


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
async def test_parts_that_are_no_text_are_named(kind: str) -> None:
    """Rather than what a text would have looked like."""
    messages = [{"role": "user", "content": [{"type": kind, kind: {}}]}]
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(CHAT, json={**BODY, "messages": messages})

    sentence = (
        f"messages.0.content: parts of type '{kind}' are not supported: models here read text"
    )
    assert answer.json()["error"]["message"] == sentence


async def test_what_an_assistant_refused_to_say_is_its_text() -> None:
    """Clients send earlier answers back as they came."""
    engine = ScriptedEngine()
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    messages = [*BODY["messages"], refusal, *BODY["messages"]]
    async with http_client(engine) as client:
        await client.post(CHAT, json={**BODY, "messages": messages})

    assert [message.content for message in engine.demo.messages] == ["Hi", "No.", "Hi"]
