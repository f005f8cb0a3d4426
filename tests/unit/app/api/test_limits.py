"""Limits, turns and places, as callers of the surfaces meet them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from app.keys.file_store import FileKeyStore
from app.keys.grants import KeyLimits
from app.keys.registry import KeyDraft, KeyRegistry
from app.settings import LimitSettings, Settings
from app.settings.keys import KeySettings
from tests.harness.asgi_callers import RequestCaller, SocketCaller
from tests.harness.scripted_engine import ScriptedEngine, running_app

CHAT = "/v1/chat/completions"
BODY = {"model": "demo", "messages": [{"role": "user", "content": "a"}], "max_tokens": 3}
OPENING = {"type": "open_inference_session", "model": "demo", "max_length": 50}


class Tenant:
    """A caller whose key has limits of its own."""

    def __init__(self, app: FastAPI, key: str) -> None:
        self.app = app
        self.headers = {"authorization": f"Bearer {key}"}

    async def ask(self) -> httpx2.Response:
        """Ask for a short answer."""
        transport = httpx2.ASGITransport(self.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.post(CHAT, json=BODY, headers=self.headers)


@asynccontextmanager
async def tenant(
    path: Path, engine: ScriptedEngine, limits: KeyLimits, **settings: float
) -> AsyncIterator[Tenant]:
    """Run the app with a stored key."""
    new = await KeyRegistry(FileKeyStore(path)).create(KeyDraft(name="tenant", limits=limits))
    all_settings = Settings(
        keys=KeySettings(file=path), limits=LimitSettings.model_validate(settings)
    )
    async with running_app(engine, all_settings) as app:
        yield Tenant(app, new.text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the keys are."""
    return tmp_path / "keys.json"


def _code(answer: httpx2.Response) -> str:
    return str(answer.json()["error"]["code"])


async def test_requests_of_a_minute(path: Path) -> None:
    """Each answer says how many are left; the one too many says when to come back."""
    async with tenant(path, ScriptedEngine("abc" * 9), KeyLimits(requests_per_minute=2)) as caller:
        first, second, third = [await caller.ask() for _ in range(3)]

    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert second.status_code == 200
    assert (third.status_code, _code(third)) == (429, "rate_limited")
    assert third.headers["retry-after"] == "30"


async def test_tokens_of_a_month(path: Path) -> None:
    """A request that may use more than is left is refused; what others did not use is there."""
    async with tenant(path, ScriptedEngine("ab"), KeyLimits(monthly_tokens=8)) as caller:
        first, second, third = [await caller.ask() for _ in range(3)]

    assert [first.status_code, second.status_code] == [200, 200]
    assert (third.status_code, _code(third)) == (429, "budget_exhausted")
    assert int(third.headers["retry-after"]) > 0


async def test_streams_at_once(path: Path) -> None:
    """The place of the first is free again when it has ended."""
    engine = ScriptedEngine("abc" * 9)
    engine.num_before_hold = 1
    async with tenant(path, engine, KeyLimits(max_streams=1)) as caller:
        body = {**BODY, "stream": True}
        async with RequestCaller(caller.app, CHAT, body, caller.headers) as running:
            await engine.is_holding.wait()
            refused = await caller.ask()
            engine.released.set()
            await running.wait_served()

        assert (refused.status_code, _code(refused)) == (429, "too_many_open")
        assert (await caller.ask()).status_code == 200


async def test_websockets_at_once(path: Path) -> None:
    """The second one is told, and closed."""
    async with tenant(path, ScriptedEngine(), KeyLimits(max_connections=1)) as caller:
        async with SocketCaller(caller.app, caller.headers) as first:
            first.say(**OPENING)
            await first.reply()
            async with SocketCaller(caller.app, caller.headers) as second:
                assert "1 connections open" in (await second.reply())["traceback"]
                assert await second.close_code() == 1013
            first.leave()
            await first.wait_served()

        async with SocketCaller(caller.app, caller.headers) as third:
            third.say(**OPENING)
            assert (await third.reply())["ok"]


async def test_generations_of_one_address(path: Path) -> None:
    """Whatever keys it has."""
    engine = ScriptedEngine("abc" * 9)
    engine.num_before_hold = 1
    async with tenant(path, engine, KeyLimits(), address_generations=1) as caller:
        body = {**BODY, "stream": True}
        async with RequestCaller(caller.app, CHAT, body, caller.headers):
            await engine.is_holding.wait()
            refused = await caller.ask()

    assert (refused.status_code, _code(refused)) == (429, "too_many_open")


async def test_websockets_of_one_address(path: Path) -> None:
    """Keys do not multiply them: whoever holds many still has one address."""
    async with (
        tenant(path, ScriptedEngine(), KeyLimits(), address_connections=1) as caller,
        SocketCaller(caller.app, caller.headers) as first,
    ):
        first.say(**OPENING)
        await first.reply()
        async with SocketCaller(caller.app, caller.headers) as second:
            assert "1 connections open" in (await second.reply())["traceback"]
            assert await second.close_code() == 1013


async def test_request_beyond_the_slots_is_answered_in_its_turn(path: Path) -> None:
    """It is counted as waiting meanwhile."""
    engine = ScriptedEngine("abc" * 9)
    engine.num_before_hold = 1
    async with (
        tenant(path, engine, KeyLimits(), max_generations=1) as caller,
        RequestCaller(caller.app, CHAT, BODY, caller.headers) as first,
    ):
        await engine.is_holding.wait()
        async with RequestCaller(caller.app, CHAT, BODY, caller.headers) as second:
            # Nothing but the metric tells of it.
            while not _num_waiting(caller.app):  # noqa: ASYNC110
                await asyncio.sleep(0)
            engine.released.set()

            assert [await first.status(), await second.status()] == [200, 200]


def _num_waiting(app: FastAPI) -> float:
    registry: CollectorRegistry = app.state.context.metrics.registry
    labels = {"model_name": "demo"}
    return registry.get_sample_value("vllm:num_requests_waiting", labels) or 0.0


async def test_full_queue_is_told_with_the_time_to_wait(path: Path) -> None:
    """Nothing is charged for it."""
    engine = ScriptedEngine("abc" * 9)
    engine.num_before_hold = 1
    limits = KeyLimits(tokens_per_minute=10)
    async with tenant(path, engine, limits, max_generations=1, max_waiting=0) as caller:
        async with RequestCaller(caller.app, CHAT, BODY, caller.headers) as first:
            await engine.is_holding.wait()
            refused = await caller.ask()
            engine.released.set()
            assert await first.status() == 200

        assert (refused.status_code, _code(refused)) == (503, "queue_full")
        assert refused.headers["retry-after"] == "1"
        assert (await caller.ask()).headers["x-ratelimit-remaining-tokens"] == "2"


async def test_waiting_keys_take_turns_by_their_weights(path: Path) -> None:
    """While one slot is all there is, a key of weight 3 has three turns to another one's one."""
    registry = KeyRegistry(FileKeyStore(path))
    heavy, light = [
        (await registry.create(KeyDraft(name="t", limits=KeyLimits(weight=weight)))).text
        for weight in (3, 1)
    ]
    engine = ScriptedEngine("ab" * 50)
    engine.num_before_hold = 1
    settings = Settings(keys=KeySettings(file=path), limits=LimitSettings(max_generations=1))
    answered: list[str] = []

    async def ask(app: FastAPI, key: str) -> None:
        assert (await Tenant(app, key).ask()).status_code == 200
        answered.append(key)

    async with running_app(engine, settings) as app, asyncio.TaskGroup() as group:
        group.create_task(ask(app, light))  # has the slot
        await engine.is_holding.wait()
        for key in [light] * 4 + [heavy] * 4:
            group.create_task(ask(app, key))
        while _num_waiting(app) < 8:  # noqa: ASYNC110 - nothing but the metric tells of it
            await asyncio.sleep(0)
        engine.released.set()

    turns = answered[1:]
    assert turns[:5].count(heavy) == 4
    assert sorted(turns) == sorted([light] * 4 + [heavy] * 4)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_who_leaves_while_waiting_waits_no_longer(path: Path, is_stream: bool) -> None:
    """Its tokens come back, and its place in the queue is another one's."""
    engine = ScriptedEngine("abc" * 9)
    engine.num_before_hold = 1
    limits = KeyLimits(tokens_per_minute=8)  # two such requests
    async with (
        tenant(path, engine, limits, max_generations=1, max_waiting=1) as caller,
        RequestCaller(caller.app, CHAT, BODY, caller.headers) as first,
    ):
        await engine.is_holding.wait()
        body = {**BODY, "stream": is_stream}
        async with RequestCaller(caller.app, CHAT, body, caller.headers) as leaving:
            while not _num_waiting(caller.app):  # noqa: ASYNC110
                await asyncio.sleep(0)
            leaving.leave()
            await leaving.wait_served()
        assert _num_waiting(caller.app) == 0

        async with RequestCaller(caller.app, CHAT, BODY, caller.headers) as second:
            while not _num_waiting(caller.app):  # noqa: ASYNC110
                await asyncio.sleep(0)
            engine.released.set()

            assert [await first.status(), await second.status()] == [200, 200]
