"""Chats on a scripted engine, as the `openai` SDK and a raw reader see them."""

import json
from typing import Any

import openai
import pytest
from pydantic import SecretStr

from app.settings import LimitSettings, Settings
from swarm_client.errors import NoRouteError, SessionLostError
from swarm_protocol.identifiers import BlockRange, PeerId
from tests.harness.asgi_callers import RequestCaller
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app
from tests.unit.app.api.sdk import openai_sdk, openai_sdk_of

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}


async def test_sdk_reads_a_whole_answer() -> None:
    """Text, finish reason and usage."""
    async with openai_sdk(ScriptedEngine()) as client:
        answer = await client.chat.completions.create(**BODY, max_tokens=4)

    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == "Hell"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 4)


async def test_sdk_reads_a_stream_with_usage() -> None:
    """The role comes first, the finish reason last but one, then the usage without choices."""
    async with openai_sdk(ScriptedEngine("Hey")) as client:
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


async def test_swarm_without_a_route_gets_503_before_any_event() -> None:
    """Also when a stream was asked for."""
    engine = ScriptedEngine()
    engine.open_error = NoRouteError([BlockRange(4, 8)])
    async with openai_sdk(engine) as client:
        with pytest.raises(openai.InternalServerError, match="no online server") as raised:
            await client.chat.completions.create(**BODY, stream=True)

    assert raised.value.status_code == 503
    assert raised.value.response.headers["retry-after"] == "2"


async def test_loss_in_the_middle_of_a_stream_is_an_event() -> None:
    """The SDK raises it as an error."""
    engine = ScriptedEngine()
    engine.error = SessionLostError(PeerId("QmSecret"), BlockRange(0, 4))
    engine.num_before_error = 2
    async with openai_sdk(engine) as client:
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
    async with running_app(engine, settings) as app, openai_sdk_of(app) as client:
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
            refusal = await late.next_message()

        assert refusal["status"] == 503
        assert int(dict(refusal["headers"])[b"retry-after"]) > 0
        engine.released.set()
        await app.state.context.admission.drain(5)

        assert await running.status() == 200


async def test_wrong_key_is_an_authentication_error() -> None:
    """And the right one is none."""
    settings = Settings(api_keys=(SecretStr("correct-key"),))
    async with openai_sdk(ScriptedEngine(), settings, "wrong-key") as client:
        with pytest.raises(openai.AuthenticationError, match="API key"):
            await client.chat.completions.create(**BODY)

    async with openai_sdk(ScriptedEngine(), settings, "correct-key") as client:
        assert (await client.models.list()).data
