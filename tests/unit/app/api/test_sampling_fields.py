"""Fields about sampling: what becomes of them, and which are refused by name."""

from typing import Any

import pytest

from app.inference.requests import GenerationRequest
from swarm_client.generation.parameters import SamplingParameters
from tests.harness.asgi_callers import SocketCaller
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]},
    TEXT: {"model": "demo", "prompt": "Hi"},
}
BOTH = pytest.mark.parametrize("path", [CHAT, TEXT])


async def asked(path: str, fields: dict[str, Any]) -> GenerationRequest:
    """Return what the engine is asked."""
    engine = ScriptedEngine()
    async with http_client(engine) as client:
        answer = await client.post(path, json={**BODIES[path], **fields})
    assert answer.status_code == 200, answer.text
    assert "x-swarmgate-ignored" not in answer.headers
    return engine.requests[0]


async def refused(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the error a caller gets, of status 400."""
    engine = ScriptedEngine()
    async with http_client(engine) as client:
        answer = await client.post(path, json={**BODIES[path], **fields})
    assert answer.status_code == 400
    assert engine.requests == []
    error: dict[str, Any] = answer.json()["error"]
    return error


@BOTH
async def test_penalties_and_biases_reach_the_sampler(path: str) -> None:
    """Biases are keyed by token ids as texts, because JSON has no other keys."""
    fields = {
        "presence_penalty": 1.5,
        "frequency_penalty": -2,
        "repetition_penalty": 1.1,
        "logit_bias": {"5": 100, "17": -0.5},
    }

    request = await asked(path, fields)

    assert request.sampling == SamplingParameters(
        presence_penalty=1.5,
        frequency_penalty=-2,
        repetition_penalty=1.1,
        logit_bias=((5, 100), (17, -0.5)),
    )


@BOTH
async def test_stop_tokens_and_their_text_reach_the_engine(path: str) -> None:
    """By vLLM's names."""
    fields = {"stop_token_ids": [3, 9], "ignore_eos": True, "include_stop_str_in_output": True}

    request = await asked(path, {**fields, "skip_special_tokens": False})

    assert request.stop_token_ids == (3, 9)
    assert request.ignore_eos
    assert request.keeps_stop
    assert request.keeps_special_tokens


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        (CHAT, {}, None),
        (CHAT, {"logprobs": False}, None),
        (CHAT, {"logprobs": True}, 0),
        (CHAT, {"logprobs": True, "top_logprobs": 20}, 20),
        (CHAT, {"top_logprobs": 0}, None),
        (TEXT, {"logprobs": 0}, 0),
        (TEXT, {"logprobs": 5}, 5),
        (TEXT, {"logprobs": None}, None),
    ],
)
async def test_logprobs_are_asked_for_in_the_form_of_each_dialect(
    path: str, fields: dict[str, Any], expected: int | None
) -> None:
    """Chats have a switch and a number, completions the number alone."""
    assert (await asked(path, fields)).num_logprobs == expected


@BOTH
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"256": 1}}, "logit_bias"),  # the vocabulary has 256 tokens
        ({"logit_bias": {"-1": 1}}, "logit_bias.-1"),
        ({"logit_bias": {"cat": 1}}, "logit_bias.cat"),
        ({"logit_bias": {"5": 1, "05": 2}}, "logit_bias"),
        ({"logit_bias": {str(index): 1 for index in range(1025)}}, "logit_bias"),
        ({"stop_token_ids": [-1]}, "stop_token_ids.0"),
        ({"stop_token_ids": list(range(17))}, "stop_token_ids"),
        ({"ignore_eos": "yes"}, "ignore_eos"),
        ({"logprobs": "yes"}, "logprobs"),
    ],
)
async def test_what_is_out_of_range_is_refused_by_name(
    path: str, fields: dict[str, Any], param: str
) -> None:
    """Before anything is generated."""
    assert (await refused(path, fields))["param"] == param


@pytest.mark.parametrize(
    ("path", "field"), [(CHAT, "top_logprobs"), (TEXT, "logprobs")], ids=["chat", "text"]
)
async def test_at_most_twenty_alternatives_are_named(path: str, field: str) -> None:
    """Each of them is sent with every token."""
    assert (await refused(path, {field: 21}))["param"] == field


async def test_alternatives_without_logprobs_are_refused() -> None:
    """As at OpenAI: whoever names a number and not the switch has forgotten one."""
    error = await refused(CHAT, {"top_logprobs": 3})

    assert error["param"] == "top_logprobs"
    assert "logprobs: true" in error["message"]


async def test_biases_out_of_range_are_refused_before_a_stream_begins() -> None:
    """A status, not an error in the middle of status 200."""
    assert (await refused(CHAT, {"stream": True, "logit_bias": {"999": 1}}))["param"]


async def test_petals_api_takes_them_by_the_same_names() -> None:
    """Numbers of forms are texts; what a form cannot say comes as JSON."""
    engine = ScriptedEngine()
    fields = {"model": "demo", "inputs": "Hi", "max_new_tokens": 2, "do_sample": 1, "seed": 5}
    more = {"frequency_penalty": "0.5", "min_p": 0.1, "logit_bias": {"7": -3}, "ignore_eos": "1"}
    async with http_client(engine) as client:
        await client.post("/api/v1/generate", json={**fields, **more, "stop_token_ids": [4]})

    (request,) = engine.requests
    assert request.sampling == SamplingParameters(
        do_sample=True, seed=5, frequency_penalty=0.5, min_p=0.1, logit_bias=((7, -3),)
    )
    assert request.stop_token_ids == (4,)
    assert request.ignore_eos


async def test_petals_conversations_take_them_too() -> None:
    """And refuse what the model cannot do with a sentence."""
    engine = ScriptedEngine()
    wish = {"type": "generate", "max_new_tokens": 1, "stop_token_ids": [4], "presence_penalty": 1}
    async with running_app(engine) as app, SocketCaller(app) as caller:
        caller.say(type="open_inference_session", model="demo", max_length=20)
        caller.say(**wish)
        caller.say(**wish, logit_bias={"256": 1})
        await caller.reply()
        assert (await caller.reply())["ok"]
        refusal = await caller.reply()

    assert engine.requests[0].stop_token_ids == (4,)
    assert engine.requests[0].sampling.presence_penalty == 1
    assert "logit_bias must be a whole number from 0 to 255" in refusal["traceback"]
