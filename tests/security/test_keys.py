"""Promises about keys: what is told to whoever guesses, and where they are never looked for."""

import ast
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

import app
from app.keys.file_store import FileKeyStore
from app.keys.registry import KeyDraft, KeyRegistry
from app.settings import Settings
from app.settings.keys import KeySettings
from tests.harness.asgi_callers import SocketCaller
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app

KEY = "correct-key"
SOURCES = sorted(Path(app.__file__).parent.rglob("*.py"))
SECRET_WORDS = ("digest", "secret", "api_key")


def _compared_by_operator(source: str) -> Iterator[str]:
    """Yield comparisons of a secret by `==`, `!=` or `in`, which end at the first difference."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and any(
            isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for operator in node.ops
        ):
            text = ast.unparse(node)
            if any(word in text for word in SECRET_WORDS):
                yield text


def test_the_search_finds_what_it_looks_for() -> None:
    """It would else find nothing for ever."""
    assert list(_compared_by_operator("if digest == given: pass")) == ["digest == given"]
    assert list(_compared_by_operator("hmac.compare_digest(digest, given)")) == []


def test_secrets_are_compared_in_constant_time() -> None:
    """How long a wrong key takes tells nothing of the right one."""
    found = [text for path in SOURCES for text in _compared_by_operator(path.read_text("utf-8"))]

    assert len(SOURCES) > 100
    assert found == []


@pytest.mark.parametrize("name", ["key", "api_key", "api-key", "token", "access_token"])
async def test_a_key_in_the_address_opens_nothing(name: str) -> None:
    """Proxies and browsers write addresses down."""
    settings = Settings(api_keys=(SecretStr(KEY),))
    async with http_client(ScriptedEngine(), settings) as client:
        by_address = await client.get("/v1/models", params={name: KEY})
        by_header = await client.get("/v1/models", headers={"authorization": f"Bearer {KEY}"})

    assert (by_address.status_code, by_header.status_code) == (401, 200)


TURN = {"type": "generate", "inputs": "Hi", "max_new_tokens": 1}


@asynccontextmanager
async def _conversation(path: Path) -> AsyncIterator[tuple[SocketCaller, KeyRegistry, str]]:
    """Yield a connection that has had one turn, and the registry and the id of its key."""
    registry = KeyRegistry(FileKeyStore(path))
    new = await registry.create(KeyDraft(name="tenant"))
    settings = Settings(keys=KeySettings(file=path, cache_s=0, grace_s=0))
    headers = {"authorization": f"Bearer {new.text}"}
    async with (
        running_app(ScriptedEngine(), settings) as gateway,
        SocketCaller(gateway, headers) as caller,
    ):
        caller.say(type="open_inference_session", model="demo", max_length=64)
        await caller.reply()
        caller.say(**TURN)
        assert (await caller.reply())["outputs"] == "H"
        yield caller, registry, new.record.id


@pytest.mark.parametrize(
    ("end", "words"),
    [(KeyRegistry.revoke, "no longer good"), (KeyRegistry.rotate, "wrong API key")],
)
async def test_a_connection_does_not_outlive_its_key(
    tmp_path: Path, end: Callable[[KeyRegistry, str], Awaitable[object]], words: str
) -> None:
    """Whoever has stolen a key may have opened a WebSocket long before it was found out."""
    async with _conversation(tmp_path / "keys.json") as (caller, registry, key_id):
        await end(registry, key_id)

        caller.say(**TURN)

        assert words in (await caller.reply())["traceback"]
        assert await caller.close_code() == 1008


async def test_a_conversation_goes_on_while_nobody_can_look_up_its_key(tmp_path: Path) -> None:
    """It was good when the conversation began."""
    path = tmp_path / "keys.json"
    async with _conversation(path) as (caller, _, _):
        path.write_text("not a list of keys")

        caller.say(**TURN)

        assert (await caller.reply())["outputs"] == "e"
