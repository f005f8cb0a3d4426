"""The surfaces on a real engine and real block servers."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.settings import Settings
from tests.harness.asgi_callers import RequestCaller, SocketCaller
from tests.harness.scripted_engine import ScriptedEngine, running_app
from tests.integration.app.api.gateway import RunningGateway, gateway_of
from tests.integration.app.inference.swarm import until

OPEN = {"type": "open_inference_session", "model": "tiny-llama", "max_length": 128}
FORM = {"model": "tiny-llama", "inputs": "Once upon", "max_new_tokens": 12}


async def _v1(gateway: RunningGateway, **fields: object) -> str:
    async with gateway.client() as client:
        answer = (await client.post("/api/v1/generate", data={**FORM, **fields})).json()
    assert answer["ok"], answer
    return str(answer["outputs"])


async def _v2(gateway: RunningGateway, **fields: object) -> list[dict[str, object]]:
    async with SocketCaller(gateway.app) as caller:
        caller.say(**OPEN)
        caller.say(type="generate", **fields)
        replies = [await caller.reply(), await caller.reply()]
        while replies[-1]["ok"] and not replies[-1]["stop"]:
            replies.append(await caller.reply())
    return replies[1:]


async def test_all_surfaces_say_the_same(tiny_llama: Path) -> None:
    """Greedy output is one text, however it is asked for."""
    async with gateway_of(tiny_llama) as gateway:
        text = await _v1(gateway)
        (reply,) = await _v2(gateway, inputs="Once upon", max_new_tokens=12)
        async with gateway.client() as client:
            prompt = await gateway.swarm.encode("Once upon")
            body = {"model": "tiny-llama", "prompt": prompt, "max_tokens": 12, "temperature": 0}
            completion = (await client.post("/v1/completions", json=body)).json()

    assert text
    assert reply["outputs"] == text
    assert completion["usage"]["completion_tokens"] <= 12


async def test_token_by_token_replies_add_up_to_the_whole(tiny_llama: Path) -> None:
    """Split characters wait until they are complete; every token is counted once."""
    async with gateway_of(tiny_llama) as gateway:
        (whole,) = await _v2(gateway, inputs="Once upon", max_new_tokens=60)
        replies = await _v2(
            gateway, inputs="Once upon", max_new_tokens=1, stop_sequence="never said"
        )

    text = "".join(str(reply.get("outputs", "")) for reply in replies)
    assert text.startswith(str(whole["outputs"]))
    assert len(replies) > 10
    assert replies[-1].get("stop") or "Maximum length exceeded" in str(replies[-1]["traceback"])


async def test_stop_text_is_found_anywhere_and_the_dialogue_goes_on(tiny_llama: Path) -> None:
    """The text ends with it; a further message continues behind it."""
    async with gateway_of(tiny_llama) as gateway:
        text = await _v1(gateway)
        stop = text[3:6]
        async with SocketCaller(gateway.app) as caller:
            caller.say(**OPEN)
            caller.say(type="generate", inputs="Once upon", max_new_tokens=1, stop_sequence=stop)
            replies = [await caller.reply(), await caller.reply()]
            while not replies[-1]["stop"]:
                replies.append(await caller.reply())
            said = "".join(reply["outputs"] for reply in replies[1:])
            caller.say(type="generate", max_new_tokens=12 - 6)

            rest = (await caller.reply())["outputs"]

    assert said == text[: text.index(stop) + len(stop)]
    assert said + rest == text[: len(said + rest)]


async def test_leaving_frees_the_servers_memory(tiny_llama: Path) -> None:
    """Streaming or not, on every surface, within one step, where nothing can be resumed."""
    chat = {"model": "tiny-llama", "messages": [{"role": "user", "content": "Hi"}]}
    long = {"max_tokens": 400, "seed": 1, "temperature": 2}
    async with gateway_of(tiny_llama, Settings(resume_s=0)) as gateway:
        for path, body in (
            ("/api/v1/generate", {**FORM, "max_new_tokens": 400}),
            ("/v1/chat/completions", {**chat, **long}),
            ("/v1/chat/completions", {**chat, **long, "stream": True}),
        ):
            async with RequestCaller(gateway.app, path, body) as caller:
                await until(lambda: any(s.num_sessions for s in gateway.swarm.servers))
                caller.leave()
                await caller.wait_served()
            await gateway.swarm.until_idle()

        assert gateway.num_requests("cancelled", "openai_chat") == 2
        assert gateway.num_requests("cancelled", "petals_v1") == 1


async def test_closing_the_socket_frees_the_servers_memory(tiny_llama: Path) -> None:
    """It is the stop button of Petals' page."""
    async with gateway_of(tiny_llama) as gateway:
        async with SocketCaller(gateway.app) as caller:
            caller.say(**OPEN)
            caller.say(type="generate", inputs="Hi", max_new_tokens=1, stop_sequence="never")
            await caller.reply()
            await caller.reply()

            caller.leave()
            await caller.wait_served()

        await gateway.swarm.until_idle()


async def test_lost_server_is_told_and_its_return_is_noticed(tiny_llama: Path) -> None:
    """The caller waits, knows for what, and gets the answer."""
    async with gateway_of(tiny_llama) as gateway:
        lost = gateway.swarm.servers[1].peer_id
        async with SocketCaller(gateway.app) as caller:
            caller.say(**OPEN)
            caller.say(type="generate", inputs="Hi", max_new_tokens=1)
            assert [(await caller.reply())["ok"] for _ in range(2)] == [True, True]
            gateway.swarm.network.cut(lost)
            caller.say(type="generate", max_new_tokens=1)

            events = [(await caller.reply())["event"] for _ in range(2)]
            gateway.swarm.network.heal(lost)
            while "event" in (reply := await caller.reply()):
                events.append(reply["event"])

        assert [each["type"] for each in events] == [
            *("hop_lost", "waiting_for_blocks", "hop_restored")
        ]
        assert events[1]["blocks"] == [[2, 4]]
        assert reply["ok"] is True
        assert reply["token_count"] == 1


async def test_ready_and_swarm_tell_the_truth(tiny_llama: Path) -> None:
    """A canary token came through both servers."""
    async with gateway_of(tiny_llama) as gateway, gateway.client() as client:
        ready = await client.get("/health/ready")
        (model,) = (await client.get("/api/v1/swarm")).json()["models"]

    assert ready.status_code == 200
    assert model["is_reachable"]
    assert [server["blocks"] for server in model["servers"]] == [[0, 2], [2, 4]]
    assert {server["state"] for server in model["servers"]} == {"online"}


FRAMES = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=8),
    st.sampled_from([json.dumps(OPEN | {"model": "demo"}), '{"type":"generate"}', "[]", "{", "1"]),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["open_inference_session", "generate", "x", 3, None])},
        optional={
            "model": st.sampled_from(["demo", "x", None, 5]),
            "max_length": st.integers(-5, 2**70) | st.floats() | st.text(max_size=2),
            "max_new_tokens": st.integers(-5, 9) | st.none() | st.booleans(),
            "inputs": st.text(max_size=5) | st.none() | st.integers(),
            "do_sample": st.booleans() | st.integers(-1, 2),
            "temperature": st.floats() | st.text(max_size=2),
            "top_k": st.integers(-5, 5) | st.floats(),
            "stop_sequence": st.text(max_size=3) | st.none(),
            "extra_stop_sequences": st.lists(st.text(max_size=2), max_size=3) | st.text(max_size=2),
        },
    ).map(json.dumps),
)


@pytest.mark.parametrize("opens_first", [False, True])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frames=st.lists(FRAMES, min_size=1, max_size=6))
async def test_any_dialogue_ends_with_a_reply_and_frees_everything(
    opens_first: bool, frames: list[str | bytes]
) -> None:
    """Whatever is sent, each answer is JSON of the dialect, and the last frame is a refusal."""
    engine = ScriptedEngine("abcdefgh" * 50)
    async with running_app(engine) as app, SocketCaller(app) as caller:
        if opens_first:
            caller.say(**OPEN | {"model": "demo"})
        for frame in frames:
            caller.say_bytes(frame) if isinstance(frame, bytes) else caller.say_text(frame)
        caller.say_text("the end")

        reply = await caller.reply()
        while reply["ok"]:
            reply = await caller.reply()

        assert reply.keys() == {"ok", "traceback"}
        assert "\n" not in reply["traceback"]
        assert await caller.close_code() in (1003, 1008, 1009, 1013)
        await caller.wait_served()
        assert engine.num_open == 0
