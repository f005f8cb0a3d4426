"""Two gateways on one Redis: one is killed or restarted in mid-stream, the other goes on."""

import http.client
import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.harness.programs import DEMO_MODEL, Program, free_port, get_json
from tests.harness.redis_server import redis_server

pytestmark = pytest.mark.timeout(120)

_START_S: Final = 40.0
CHAT: Final[dict[str, Any]] = {
    "model": "demo",
    "messages": [{"role": "user", "content": "Tell me a story about a fox named Lily."}],
    "max_tokens": 150,
    "stream": True,
}
GREEDY: Final = {"temperature": 0}
SEEDED: Final = {"temperature": 1.2, "seed": 7}
QUESTIONS: Final = (
    "<|user|>Tell me a story about a fox named Lily.<|end|><|assistant|>",
    "<|user|>What is the capital of Japan?<|end|><|assistant|>",
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway."""

    program: Program
    port: int


class Pair:
    """Two servers, Redis, and any number of gateways in front of them.

    In float32: with fewer bits, tokens run in one step and one by one round differently, and this
    small model is often undecided between two words.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._redis = stack.enter_context(redis_server())
        first = self._start_server("0:4", "--new-swarm")
        self._peer: str = first["maddrs"][0]
        self._start_server("4:8", "--initial-peers", self._peer)

    def start_gateway(self) -> Gateway:
        """Start one, and wait until a token came back through it."""
        port = free_port()
        program = self._start(
            *("gateway", "--models", DEMO_MODEL, "--port", str(port), "--threads", "1"),
            *("--dtype", "float32"),
            *("--initial-peers", self._peer, "--redis-url", self._redis.url),
        )
        program.wait_for('"ready": true', timeout_s=_START_S)
        deadline = time.monotonic() + _START_S
        while not is_ready(port):
            assert time.monotonic() < deadline, program.output
            time.sleep(0.1)
        return Gateway(program, port)

    def _start_server(self, span: str, *arguments: str) -> dict[str, Any]:
        program = self._start(
            *("serve", DEMO_MODEL, "--blocks", span, "--dtype", "float32", "--threads", "1"),
            *arguments,
        )
        return dict(json.loads(program.wait_for('"ready": true', timeout_s=_START_S)))

    def _start(self, *arguments: str) -> Program:
        return self._stack.enter_context(Program(*arguments, is_prepared=True))


def is_ready(port: int) -> bool:
    """Tell whether a gateway serves."""
    try:
        return bool(get_json(f"http://127.0.0.1:{port}/health/ready")["ready"])
    except OSError:
        return False


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """The running swarm."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SWARMGATE_DRAIN_S", "0.1")
        yield Pair(stack)


class Listening(Protocol):
    """Whatever answers on a port of this machine."""

    @property
    def port(self) -> int:
        """Where."""


class Reader:
    """One caller of the OpenAI dialect, over any number of connections."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self.text = ""
        self.local_port = 0  # of the latest connection
        self.last_id: str | None = None
        self.errors: list[str] = []
        self.is_done = False

    @contextmanager
    def ask(self, gateway: Listening) -> Iterator[http.client.HTTPResponse]:
        """Ask a gateway, for what is missing if something has come already."""
        headers = {} if self.last_id is None else {"last-event-id": self.last_id}
        with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)) as calls:
            calls.request("POST", "/v1/chat/completions", json.dumps(self._body), headers)
            self.local_port = calls.sock.getsockname()[1]
            with calls.getresponse() as response:
                assert response.status == 200, response.read()
                yield response

    def read(self, response: http.client.HTTPResponse, *, max_events: int | None = None) -> None:
        """Read until the stream ends or breaks, or some events have come."""
        next_id, num_events = self.last_id, 0
        while num_events != max_events:
            try:
                line = response.readline().decode().rstrip("\n")
            except (OSError, http.client.HTTPException):
                return
            if line.startswith("id: "):
                next_id = line[4:]
            elif line == "data: [DONE]":
                self.is_done = True
            elif line.startswith("data: "):
                self._take(json.loads(line[6:]))
            elif not line:
                self.last_id = next_id
                num_events += 1
                if self.is_done or response.isclosed():
                    return

    def _take(self, frame: dict[str, Any]) -> None:
        if "error" in frame:
            self.errors.append(frame["error"]["code"])
        for choice in frame.get("choices", []):
            self.text += choice["delta"].get("content") or ""


def undisturbed(gateway: Listening, body: dict[str, Any]) -> str:
    """Return the whole answer."""
    reader = Reader(body)
    with reader.ask(gateway) as response:
        reader.read(response)
    assert reader.is_done
    return reader.text


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_killed_gateway_in_mid_stream_costs_no_token(pair: Pair, sampling: dict[str, Any]) -> None:
    """The other one takes over within seconds; every token comes once, and is the same."""
    doomed, heir = pair.start_gateway(), pair.start_gateway()
    body = {**CHAT, **sampling}
    expected = undisturbed(heir, body)
    reader = Reader(body)

    with reader.ask(doomed) as response:
        reader.read(response, max_events=12)
        doomed.program.send(signal.SIGKILL)
        broken_at = time.monotonic()
        reader.read(response)
    first_part = reader.text
    with reader.ask(heir) as response:
        reader.read(response)

    assert reader.is_done
    assert 0 < len(first_part) < len(expected)
    assert reader.text == expected
    assert time.monotonic() - broken_at < 15
    assert "generation_taken_over" in heir.program.output


def test_restarted_gateway_hands_its_streams_over(pair: Pair) -> None:
    """Its stream ends with a word that says so, and goes on elsewhere at once."""
    leaving, heir = pair.start_gateway(), pair.start_gateway()
    body = {**CHAT, **SEEDED}
    expected = undisturbed(heir, body)
    reader = Reader(body)

    with reader.ask(leaving) as response:
        reader.read(response, max_events=12)
        leaving.program.send(signal.SIGTERM)
        reader.read(response)
    assert leaving.program.wait(timeout_s=20) == 0
    if not reader.is_done:  # a quick swarm may have ended it within the time to drain
        assert reader.errors == ["handed_over"]
        with reader.ask(heir) as response:
            reader.read(response)

    assert reader.is_done
    assert reader.text == expected


class Talk:
    """One caller of the WebSocket, over any number of connections."""

    def __init__(self) -> None:
        self.text = ""
        self.num_replies = 0
        self.has_stopped = True
        self._resume: str | None = None

    def open(self, socket: ClientConnection) -> dict[str, Any]:
        """Open, or go on; return the reply."""
        resume = {} if self._resume is None else {"resume": self._resume}
        opening = {"type": "open_inference_session", "model": "demo", "max_length": 500}
        socket.send(json.dumps({**opening, **resume}))
        return self._receive(socket)

    def ask(self, socket: ClientConnection, text: str) -> None:
        """Ask something; replies come token by token."""
        message = {"type": "generate", "inputs": text, "max_new_tokens": 1}
        socket.send(json.dumps({**message, "stop_sequence": "<|end|>"}))
        self.has_stopped = False

    def take_all(self, socket: ClientConnection, *, max_replies: int | None = None) -> None:
        """Take replies until the text stops, or some."""
        num_replies = 0
        while not self.has_stopped and num_replies != max_replies:
            reply = self._receive(socket)
            num_replies += 1
            self.text += reply["outputs"]
            self.num_replies += 1
            self.has_stopped = reply["stop"]

    def _receive(self, socket: ClientConnection) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(socket.recv(timeout=30))
        assert reply["ok"], reply
        self._resume = reply["resume"]
        return reply


def test_killed_gateway_costs_a_conversation_nothing(pair: Pair) -> None:
    """It goes on with its context, in the middle of a turn and in the next one."""
    doomed, heir = pair.start_gateway(), pair.start_gateway()
    expected, talk = Talk(), Talk()
    with connect(f"ws://127.0.0.1:{heir.port}/api/v2/generate") as socket:
        expected.open(socket)
        for question in QUESTIONS:
            expected.ask(socket, question)
            expected.take_all(socket)

    with connect(f"ws://127.0.0.1:{doomed.port}/api/v2/generate") as socket:
        talk.open(socket)
        talk.ask(socket, QUESTIONS[0])
        talk.take_all(socket, max_replies=8)
        doomed.program.send(signal.SIGKILL)
        with suppress(ConnectionClosed):
            talk.take_all(socket)
    assert not talk.has_stopped
    with connect(f"ws://127.0.0.1:{heir.port}/api/v2/generate") as socket:
        assert talk.open(socket)["turns"] == 1
        talk.take_all(socket)
        talk.ask(socket, QUESTIONS[1])
        talk.take_all(socket)

    assert (talk.text, talk.num_replies) == (expected.text, expected.num_replies)
    assert "conversation_taken_over" in heir.program.output
