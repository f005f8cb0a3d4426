"""The OpenAI surfaces on a scripted engine, as the `openai` SDK and a raw reader see them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.settings import LimitSettings, Settings
from swarm_client.errors import NoRouteError, SessionLostError
from swarm_client.generation.parameters import SamplingParameters
from swarm_protocol.identifiers import BlockRange, PeerId
from tests.harness.asgi_callers import RequestCaller
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}


@asynccontextmanager
async def _sdk(
    engine: ScriptedEngine, settings: Settings | None = None, api_key: str = "any-key"
) -> AsyncIterator[openai.AsyncOpenAI]:
    async with running_app(engine, settings) as app, _sdk_of(app, api_key) as client:
        yield client


def _sdk_of(app: FastAPI, api_key: str = "any-key") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key=api_key,
        base_url="http://gateway/v1",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.ASGITransport(app)),
    )


async def test_sdk_reads_a_whole_answer() -> None:
    """Text, finish reason and usage."""
    async with _sdk(ScriptedEngine()) as client:
        answer = await client.chat.completions.create(**BODY, max_tokens=4)

    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == "Hell"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 4)


async def test_sdk_reads_a_stream_with_usage() -> None:
    """The role comes first, the finish reason last but one, then the usage without choices."""
    async with _sdk(ScriptedEngine("Hey")) as client:
        stream = await client.chat.completions.create(
            **BODY, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    deltas = [chunk.choices[0].delta.content for chunk in chunks[:-1]]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert deltas == ["", "H", "e", "y", None]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 2 + 4
    assert len({chunk.id for chunk in chunks}) == 1


async def test_stream_is_lines_of_data_that_end_with_done() -> None:
    """Nothing else, where streams cannot be resumed; without `include_usage` no usage."""
    async with http_client(ScriptedEngine("a\nb"), Settings(resume_s=0)) as client:
        answer = await client.post(CHAT, json={**BODY, "stream": True})

    events = answer.text.split("\n\n")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "a\nb"
    assert all("usage" not in chunk for chunk in chunks)


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


async def test_swarm_without_a_route_gets_503_before_any_event() -> None:
    """Also when a stream was asked for."""
    engine = ScriptedEngine()
    engine.open_error = NoRouteError([BlockRange(4, 8)])
    async with _sdk(engine) as client:
        with pytest.raises(openai.InternalServerError, match="no online server") as raised:
            await client.chat.completions.create(**BODY, stream=True)

    assert raised.value.status_code == 503
    assert raised.value.response.headers["retry-after"] == "2"


async def test_loss_in_the_middle_of_a_stream_is_an_event() -> None:
    """The SDK raises it as an error."""
    engine = ScriptedEngine()
    engine.error = SessionLostError(PeerId("QmSecret"), BlockRange(0, 4))
    engine.num_before_error = 2
    async with _sdk(engine) as client:
        stream = await client.chat.completions.create(**BODY, stream=True)
        with pytest.raises(openai.APIError, match="a server of its route was lost"):
            [chunk async for chunk in stream]

    assert engine.num_open == 0


async def test_leaving_a_stream_that_cannot_be_resumed_frees_the_session() -> None:
    """Within one step: no further token is asked for."""
    engine = ScriptedEngine()
    engine.num_before_hold = 2
    async with (
        running_app(engine, Settings(resume_s=0)) as app,
        RequestCaller(app, CHAT, {**BODY, "stream": True}) as caller,
    ):
        assert await caller.status() == 200
        await engine.is_holding.wait()

        caller.leave()
        await caller.wait_served()

        assert engine.num_open == 0


async def test_silent_stream_is_kept_alive_by_comments() -> None:
    """Proxies would close it otherwise."""
    engine = ScriptedEngine()
    engine.num_before_hold = 0
    async with (
        running_app(engine, Settings(keep_alive_s=0.01)) as app,
        RequestCaller(app, CHAT, {**BODY, "stream": True}) as caller,
    ):
        await caller.status()
        assert b'"role":"assistant"' in await caller.chunk()

        assert await caller.chunk() == b": keep-alive\n\n"

        engine.released.set()
        assert b'"content":"H"' in await caller.chunk()


async def test_generations_are_limited_in_number() -> None:
    """The one too many is told when to try again; the slot is free once the first has ended."""
    engine = ScriptedEngine()
    engine.num_before_hold = 0
    settings = Settings(limits=LimitSettings(max_generations=1, max_waiting=0))
    async with running_app(engine, settings) as app, _sdk_of(app) as client:
        async with RequestCaller(app, CHAT, BODY) as first:
            await engine.is_holding.wait()
            with pytest.raises(openai.InternalServerError) as raised:
                await client.chat.completions.create(**BODY)
            assert raised.value.response.headers["retry-after"] == "1"
            engine.released.set()
            assert await first.status() == 200

        assert (await client.chat.completions.create(**BODY)).choices


async def test_draining_gateway_ends_what_runs_and_takes_nothing_new() -> None:
    """New requests get 503 with a time to wait."""
    engine = ScriptedEngine()
    engine.num_before_hold = 0
    async with running_app(engine) as app, RequestCaller(app, CHAT, BODY) as running:
        await engine.is_holding.wait()
        await app.state.context.admission.drain(0.01)
        async with RequestCaller(app, CHAT, BODY) as late:
            assert await late.status() == 503

        engine.released.set()
        await app.state.context.admission.drain(5)

        assert await running.status() == 200


async def test_wrong_key_is_an_authentication_error() -> None:
    """And the right one is none."""
    settings = Settings(api_keys=(SecretStr("correct-key"),))
    async with _sdk(ScriptedEngine(), settings, "wrong-key") as client:
        with pytest.raises(openai.AuthenticationError, match="API key"):
            await client.chat.completions.create(**BODY)

    async with _sdk(ScriptedEngine(), settings, "correct-key") as client:
        assert (await client.models.list()).data


async def test_sdk_lists_and_retrieves_models() -> None:
    """With what the chat page wants to know."""
    async with _sdk(ScriptedEngine()) as client:
        models = await client.models.list()
        demo = await client.models.retrieve("demo")
        with pytest.raises(openai.NotFoundError, match="known models: demo"):
            await client.models.retrieve("other/model")

    assert [model.id for model in models.data] == ["demo"]
    assert demo.model_dump()["is_demo"] is True
    assert demo.model_dump()["max_model_len"] == 512


async def test_sdk_completes_a_text() -> None:
    """Whole and as a stream; the prompt gets the model's first token."""
    engine = ScriptedEngine("abcdef")
    async with _sdk(engine) as client:
        whole = await client.completions.create(model="demo", prompt="Hi", max_tokens=3)
        stream = await client.completions.create(
            model="demo", prompt=["Hi"], max_tokens=3, stream=True
        )
        chunks = [chunk async for chunk in stream]

    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("abc", "length")
    assert "".join(chunk.choices[0].text for chunk in chunks) == "def"
    assert [request.prompt_ids for request in engine.requests] == [(1, 72, 105)] * 2


async def test_completion_continues_given_tokens() -> None:
    """Tokens outside the vocabulary are refused."""
    engine = ScriptedEngine()
    async with _sdk(engine) as client:
        await client.completions.create(model="demo", prompt=[5, 6], max_tokens=1)
        with pytest.raises(openai.BadRequestError, match="tokens from 0 to 255"):
            await client.completions.create(model="demo", prompt=[5, 256], max_tokens=1)

    assert engine.requests[0].prompt_ids == (5, 6)


@pytest.mark.parametrize("prompt", [[], ["a", [1]], [[1], []], 5, None, [True], ["a"] * 129])
async def test_prompts_are_texts_or_lists_of_tokens(prompt: object) -> None:
    """Of one kind, and not too many."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post("/v1/completions", json={"model": "demo", "prompt": prompt})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"
