"""A gateway that listens: real sockets, real signals, foreign clients."""

import json
import signal
from pathlib import Path

import httpx2
import openai
import websockets

from app.settings import Settings
from tests.integration.app.api.gateway import listening_gateway

CHAT = {"model": "tiny-llama", "messages": [{"role": "user", "content": "Hi"}]}


async def test_openai_sdk_streams_over_a_socket(tiny_llama: Path) -> None:
    """Events arrive one by one, with usage at the end."""
    async with (
        listening_gateway(tiny_llama) as (url, _),
        openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1") as client,
    ):
        stream = await client.chat.completions.create(
            model="tiny-llama",
            messages=[{"role": "user", "content": "Hi"}],
            max_tokens=20,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        whole = await client.chat.completions.create(
            model="tiny-llama",
            messages=[{"role": "user", "content": "Hi"}],
            max_tokens=20,
            temperature=0,
        )

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage == whole.usage


async def test_closing_a_socket_in_the_middle_frees_the_servers(tiny_llama: Path) -> None:
    """HTTP streams and WebSockets alike, where streams cannot be resumed."""
    async with listening_gateway(tiny_llama, Settings(port=0, resume_s=0)) as (url, swarm):
        async with (
            httpx2.AsyncClient(base_url=url) as client,
            client.stream(
                "POST",
                "/v1/chat/completions",
                json={**CHAT, "max_tokens": 400, "stream": True, "temperature": 2, "seed": 3},
            ) as answer,
        ):
            await anext(answer.aiter_lines())
        await swarm.until_idle()

        async with websockets.connect(url.replace("http", "ws") + "/api/v2/generate") as socket:
            opening = {"type": "open_inference_session", "model": "tiny-llama", "max_length": 500}
            await socket.send(json.dumps(opening))
            await socket.send(
                json.dumps(
                    {"type": "generate", "inputs": "a", "max_new_tokens": 1, "stop_sequence": "##"}
                )
            )
            assert json.loads(await socket.recv()) == {"ok": True}
            await socket.recv()
        await swarm.until_idle()


async def test_large_message_gets_a_reply_and_not_only_a_close(tiny_llama: Path) -> None:
    """uvicorn's own limit is above ours."""
    async with (
        listening_gateway(tiny_llama) as (url, _),
        websockets.connect(url.replace("http", "ws") + "/api/v2/generate") as socket,
    ):
        await socket.send("x" * 300_000)

        assert "over the limit" in json.loads(await socket.recv())["traceback"]


async def test_sigterm_lets_a_stream_end(tiny_llama: Path) -> None:
    """A rolling restart loses no answer."""
    body = {**CHAT, "max_tokens": 150, "stream": True, "temperature": 0}
    async with (
        listening_gateway(tiny_llama) as (url, _),
        httpx2.AsyncClient(base_url=url) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        lines = answer.aiter_lines()
        first = [await anext(lines), await anext(lines)]
        signal.raise_signal(signal.SIGTERM)
        rest = [line async for line in lines if line]

    assert "assistant" in first[1]
    assert rest[-1] == "data: [DONE]"


async def test_sigterm_turns_readiness_off_while_answers_end(tiny_llama: Path) -> None:
    """A balancer that asks anew is told why, over a new connection; what runs is not disturbed."""
    body = {**CHAT, "max_tokens": 400, "stream": True, "temperature": 0, "ignore_eos": True}
    async with (
        listening_gateway(tiny_llama) as (url, _),
        httpx2.AsyncClient(base_url=url) as client,
    ):
        before = await client.get("/health/ready")
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            signal.raise_signal(signal.SIGTERM)
            async with httpx2.AsyncClient(base_url=url) as balancer:
                while (draining := await balancer.get("/health/ready")).status_code == 200:
                    pass  # the web server looks ten times a second whether it was told to stop
            rest = [line async for line in lines if line]

    assert (before.status_code, draining.status_code) == (200, 503)
    assert draining.json()["reasons"] == ["the gateway is about to stop"]
    assert rest[-1] == "data: [DONE]"
