"""Bodies over the limit."""

from collections.abc import AsyncIterator

from app.settings import LimitSettings, Settings
from tests.harness.scripted_engine import ScriptedEngine, http_client

SETTINGS = Settings(limits=LimitSettings(max_body_bytes=1024))
PATH = "/v1/chat/completions"


async def test_announced_length_over_the_limit_is_refused_unread() -> None:
    """The status is 413, the shape that of the surface."""
    async with http_client(ScriptedEngine(), SETTINGS) as client:
        answer = await client.post(PATH, content=b" " * 1025)
        petals = await client.post("/api/v1/generate", content=b" " * 1025)

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert (petals.status_code, petals.json()["ok"]) == (413, False)


async def test_body_of_unknown_length_is_counted() -> None:
    """Chunks are refused as soon as they are too many, also inside a form."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b"a" * 128

    kind = {"content-type": "application/x-www-form-urlencoded"}
    async with http_client(ScriptedEngine(), SETTINGS) as client:
        answer = await client.post(PATH, content=chunks())
        petals = await client.post("/api/v1/generate", content=chunks(), headers=kind)

    assert (answer.status_code, petals.status_code) == (413, 413)


async def test_body_at_the_limit_is_read() -> None:
    """It then is broken JSON."""
    async with http_client(ScriptedEngine(), SETTINGS) as client:
        answer = await client.post(PATH, content=b"x" * 1024)

    assert answer.status_code == 400
