"""The promise that no prompt, no output and no key is ever logged, at any level, on any surface."""

import logging
from collections.abc import Iterator, Mapping
from io import StringIO

import pytest
import structlog
from pydantic import SecretStr

from app.observability.logs import configure_logging
from app.settings import Settings
from tests.harness.asgi_callers import SocketCaller
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app

WORD = "xylocanary7731"
SAID = "yttercanary9917"
KEY = "zirconcanary4463"
AUTHORIZED = {"authorization": f"Bearer {KEY}"}
MESSAGES = [{"role": "system", "content": WORD}, {"role": "user", "content": WORD}]
CHAT = {"model": "demo", "messages": MESSAGES, "user": WORD, "stop": [WORD]}
REQUESTS: list[tuple[str, Mapping[str, object]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/chat/completions", {**CHAT, "temperature": WORD}),
    ("/v1/chat/completions", {**CHAT, "model": WORD}),
    ("/v1/chat/completions", {**CHAT, WORD: WORD}),
    ("/v1/chat/completions/render", CHAT),
    ("/v1/completions", {"model": "demo", "prompt": WORD, "stream": True}),
    ("/v1/completions", {"model": "demo", "prompt": WORD, "max_tokens": 10_000}),
    ("/v1/responses", {"model": "demo", "input": WORD}),
    ("/v1/embeddings", {"model": "demo", "input": WORD}),
    ("/v1/messages", {"model": "demo", "messages": MESSAGES[1:], "max_tokens": 9}),
    ("/v1/messages/count_tokens", {"model": "demo", "messages": MESSAGES[1:]}),
    ("/tokenize", {"model": "demo", "prompt": WORD}),
    ("/detokenize", {"model": "demo", "tokens": [1], "note": WORD}),
    ("/api/v1/generate", {"model": "demo", "inputs": WORD, "max_new_tokens": 3}),
    (f"/api/v1/generate?model=demo&max_new_tokens=3&inputs={WORD}", {}),
    (f"/{WORD}?{WORD}={WORD}", {}),
]


@pytest.fixture
def logged() -> Iterator[StringIO]:
    """Log everything, as a gateway does at its chattiest, but not what clients log."""
    root, client = logging.getLogger(), logging.getLogger("httpx2")
    handlers, level = root.handlers[:], root.level
    configure_logging("json", "debug")
    client.setLevel(logging.WARNING)
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    stream = StringIO()
    handler.setStream(stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    client.setLevel(logging.NOTSET)
    logging.getLogger("uvicorn.access").disabled = False
    structlog.reset_defaults()


def _settings() -> Settings:
    return Settings(api_keys=(SecretStr(KEY),), log_level="debug")


def _assert_nothing_told(logged: str) -> None:
    assert "request_finished" in logged, "nothing was logged, so nothing is proved"
    told = [line for line in logged.splitlines() for word in (WORD, SAID, KEY) if word in line]
    assert told == []


async def test_http_surfaces_log_no_words_of_callers_or_models(logged: StringIO) -> None:
    """Good requests, bad ones, unknown paths and broken JSON alike."""
    async with http_client(ScriptedEngine(SAID * 40), _settings()) as client:
        for path, body in REQUESTS:
            await client.post(path, json=body, headers=AUTHORIZED)
        await client.post("/v1/completions", content=f'{{"{WORD}', headers=AUTHORIZED)
        await client.post("/v1/completions", headers={"authorization": f"Bearer {WORD}"})

    _assert_nothing_told(logged.getvalue())


async def test_sockets_log_no_words_of_callers_or_models(logged: StringIO) -> None:
    """A conversation, and a message that fits nothing."""
    async with (
        running_app(ScriptedEngine(SAID), _settings()) as app,
        SocketCaller(app, AUTHORIZED) as caller,
    ):
        caller.say(type="open_inference_session", model="demo", max_length=200)
        caller.say(type="generate", inputs=WORD, max_new_tokens=4)
        caller.say(type=WORD, inputs=WORD)
        replies = [await caller.reply() for _ in range(3)]
        await caller.close_code()

    assert [reply["ok"] for reply in replies] == [True, True, False]
    _assert_nothing_told(logged.getvalue())


async def test_faults_of_our_own_log_no_words_of_callers(logged: StringIO) -> None:
    """A traceback names lines of code, and not what was in their variables."""
    engine = ScriptedEngine(SAID)
    engine.error = RuntimeError("broken")
    async with http_client(engine, _settings()) as client:
        for path, body in REQUESTS[:2]:
            await client.post(path, json=body, headers=AUTHORIZED)

    _assert_nothing_told(logged.getvalue())
