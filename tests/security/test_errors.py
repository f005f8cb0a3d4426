"""The promise that callers see codes and sentences of ours, and nothing from inside."""

from collections.abc import Mapping

import pytest

from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.identifiers import PeerId
from tests.harness.asgi_callers import SocketCaller
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app

SECRET = "/srv/secret/path.py"
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
REQUESTS: list[tuple[str, Mapping[str, object]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/completions", {"model": "demo", "prompt": "Hi"}),
    ("/v1/messages", {**CHAT, "max_tokens": 9}),
    ("/api/v1/generate", {"model": "demo", "inputs": "Hi", "max_new_tokens": 3}),
]
FAULTS = [
    RuntimeError(f"Traceback: {SECRET}"),
    PeerRefusedError(PeerId("QmEvil"), f"<script>{SECRET}</script>"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=["own", "peer"])
@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_faults_tell_http_callers_nothing_from_inside(
    path: str, body: Mapping[str, object], fault: Exception
) -> None:
    """Neither a traceback, nor a path, nor what a server of the swarm has written."""
    engine = ScriptedEngine()
    engine.error = fault
    async with http_client(engine) as client:
        answer = await client.post(path, json=body)

    told = answer.text + str(answer.headers)
    assert "try again" in told or "something went wrong" in told
    assert not any(text in told for text in (SECRET, "Traceback:", "QmEvil", "<script>"))


@pytest.mark.parametrize("fault", FAULTS, ids=["own", "peer"])
async def test_faults_tell_sockets_nothing_from_inside(fault: Exception) -> None:
    """The field `traceback` has its name from Petals, and not its content."""
    engine = ScriptedEngine()
    engine.error = fault
    async with running_app(engine) as app, SocketCaller(app) as caller:
        caller.say(type="open_inference_session", model="demo", max_length=64)
        caller.say(type="generate", inputs="Hi", max_new_tokens=4)
        replies = [await caller.reply(), await caller.reply()]

    assert replies[1]["ok"] is False
    assert SECRET not in str(replies)
    assert "QmEvil" not in str(replies)
