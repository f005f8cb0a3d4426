"""Streams kept in a real Redis: by two workers, and while it comes and goes."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

from app.settings import Settings
from app.state.redis import RedisStateStore
from tests.harness.asgi_callers import RequestCaller, SocketCaller
from tests.harness.redis_server import RedisServer, redis_server
from tests.harness.scripted_engine import ScriptedEngine, running_app
from tests.unit.app.api.resuming import Heard

CHAT = "/v1/chat/completions"
BODY = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
TEXT = "Hello, world!"
SETTINGS = Settings(abandoned_s=0.05)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that forgets everything when it is killed."""
    with redis_server() as running:
        yield running


@asynccontextmanager
async def worker(engine: ScriptedEngine, server: RedisServer) -> AsyncGenerator[FastAPI]:
    store = RedisStateStore(server.url)
    try:
        async with running_app(engine, SETTINGS, store) as app:
            yield app
    finally:
        await store.close()


def holding(num_tokens: int) -> ScriptedEngine:
    """An engine that makes a pause after some tokens."""
    engine = ScriptedEngine(TEXT)
    engine.num_before_hold = num_tokens
    return engine


async def test_another_worker_goes_on_with_a_stream(server: RedisServer) -> None:
    """With what the first one has stored."""
    heard, second = Heard(), ScriptedEngine(TEXT)
    async with worker(holding(5), server) as one, worker(second, server) as two:
        async with RequestCaller(one, CHAT, BODY) as caller:
            await heard.listen(caller, until="Hello")
            caller.leave()
            await caller.wait_served()
        headers = {"last-event-id": heard.last_id or ""}
        async with RequestCaller(two, CHAT, BODY, headers) as caller:
            await heard.listen(caller)

    assert (heard.text, heard.is_done, heard.errors) == (TEXT, True, [])
    assert second.requests[0].produced_ids == tuple(map(ord, "Hello"))


async def test_another_worker_goes_on_with_a_conversation(server: RedisServer) -> None:
    """In the middle of a turn."""
    second = ScriptedEngine(TEXT + "#")
    opening = {"type": "open_inference_session", "model": "demo", "max_length": 64}
    async with worker(holding(5), server) as one, worker(second, server) as two:
        async with SocketCaller(one) as caller:
            caller.say(**opening)
            caller.say(type="generate", inputs="Hi", max_new_tokens=1, stop_sequence="#")
            replies = [await caller.reply() for _ in range(6)]
            caller.vanish()
            await caller.wait_served()
        async with SocketCaller(two) as caller:
            caller.say(**opening, resume=replies[-1]["resume"])
            assert (await caller.reply())["turns"] == 1
            replies += [await caller.reply() for _ in range(len(TEXT) - 4)]

    assert "".join(reply.get("outputs", "") for reply in replies) == TEXT + "#"


async def test_a_redis_that_loses_everything_gets_a_running_stream_again(
    server: RedisServer,
) -> None:
    """Its caller notices nothing, and may come back for it, also when its worker has gone."""
    engine, heard, again = holding(5), Heard(), Heard()
    async with worker(ScriptedEngine(TEXT), server) as two:
        async with worker(engine, server) as one, RequestCaller(one, CHAT, BODY) as caller:
            await heard.listen(caller, until="Hello")
            server.kill()
            server.restart()
            engine.released.set()
            await heard.listen_on(caller)
        path = f"/api/v1/streams/{(heard.last_id or '').split('-')[0]}"
        async with RequestCaller(two, path, method="GET") as caller:
            await again.listen(caller)

    assert heard == again
    assert (heard.text, heard.is_done, heard.errors) == (TEXT, True, [])


async def test_a_frozen_redis_holds_no_token_back(server: RedisServer) -> None:
    """Entries wait for it, tokens do not; afterwards everything is there."""
    engine, heard, again = holding(5), Heard(), Heard()
    async with worker(engine, server) as app:
        async with RequestCaller(app, CHAT, BODY) as caller:
            await heard.listen(caller, until="Hello")
            server.freeze()
            engine.released.set()
            await heard.listen_on(caller, until=TEXT)
            server.thaw()
            await heard.listen_on(caller)
        path = f"/api/v1/streams/{(heard.last_id or '').split('-')[0]}"
        async with RequestCaller(app, path, method="GET") as caller:
            await again.listen(caller)

    assert heard == again
    assert (heard.text, heard.is_done) == (TEXT, True)
