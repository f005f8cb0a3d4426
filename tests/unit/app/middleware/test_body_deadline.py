"""Bodies that do not arrive in time."""

import json

from app.settings import LimitSettings, Settings
from tests.harness.asgi_callers import RequestCaller
from tests.harness.scripted_engine import ScriptedEngine, running_app

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
SOON = Settings(limits=LimitSettings(body_timeout_s=0.05))


class _SlowCaller(RequestCaller):
    """Sends the first byte of a body, and then nothing."""

    async def __aenter__(self) -> "_SlowCaller":
        self._to_app.get_nowait()
        self._to_app.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
        await super().__aenter__()
        return self


async def test_slow_body_is_refused_and_its_connection_closed() -> None:
    """Whoever sends a byte a minute must not hold a place."""
    async with (
        running_app(ScriptedEngine(), SOON) as app,
        _SlowCaller(app, "/v1/chat/completions", CHAT) as caller,
    ):
        start = await caller.next_message()
        error = json.loads(await caller.chunk())["error"]

    assert (start["status"], error["code"]) == (408, "body_timeout")
    assert (b"connection", b"close") in start["headers"]


async def test_answer_may_take_longer_than_the_body() -> None:
    """The deadline is that of the body alone."""
    engine = ScriptedEngine("ab")
    engine.num_before_hold = 1
    async with (
        running_app(engine, Settings(limits=LimitSettings(body_timeout_s=0.001))) as app,
        RequestCaller(app, "/v1/chat/completions", CHAT) as caller,
    ):
        await engine.is_holding.wait()
        engine.released.set()

        assert await caller.status() == 200
