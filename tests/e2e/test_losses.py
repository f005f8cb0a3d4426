"""What callers see when a part of the product is killed, and that it recovers by itself."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.harness.product import Product, running_product
from tests.harness.programs import still_alive

pytestmark = pytest.mark.timeout(120)

STORY = "<|user|>Tell me a story.<|end|><|assistant|>"
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "What is 7 + 8?"}]}


@pytest.fixture(scope="module")
def fragile() -> Iterator[Product]:
    """A product of this module's own, because the tests break it and mend it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWARMGATE_ROUTING__WAIT_FOR_BLOCKS_S", "4")  # nobody comes: 30 prove no more
        with running_product() as running:
            yield running


def assert_answers(product: Product) -> None:
    status, answer = product.post("/v1/chat/completions", CHAT | {"temperature": 0})
    assert status == 200, answer
    assert "15" in answer["choices"][0]["message"]["content"]


@contextmanager
def streaming(product: Product) -> Iterator[ClientConnection]:
    """Let a text be generated token by token, and yield the socket when the first one is there."""
    with connect(f"ws://127.0.0.1:{product.port}/api/v2/generate") as socket:
        for message in (
            {"type": "open_inference_session", "model": "demo", "max_length": 2000},
            {"type": "generate", "inputs": STORY, "max_new_tokens": 1},
        ):
            socket.send(json.dumps(message))
            assert json.loads(socket.recv(timeout=30))["ok"] is True
        yield socket


def go_on(socket: ClientConnection) -> None:
    """Ask for all tokens that there may be; one event each."""
    message = {"type": "generate", "inputs": "", "max_new_tokens": 1, "stop_sequence": "@@@"}
    socket.send(json.dumps(message))


def receive(socket: ClientConnection, max_events: int = 1000) -> list[str]:
    """Return the texts of the next events, up to the one that ends the answer."""
    texts: list[str] = []
    is_over = False
    while len(texts) < max_events and not is_over:
        reply = json.loads(socket.recv(timeout=30))
        assert reply["ok"], reply
        if "event" not in reply:  # of the swarm's repairs
            texts.append(reply["outputs"])
        is_over = reply["stop"]
    return texts


def test_check_26_killed_server_does_not_change_a_token_if_another_stands_by(
    fragile: Product,
) -> None:
    """kill -9 in mid-stream of the only server that the session can have chosen."""
    with streaming(fragile) as socket:
        go_on(socket)
        undisturbed = receive(socket)

    first = fragile.servers["4:8"]
    with streaming(fragile) as socket:
        fragile.start_server("4:8")
        fragile.servers["4:8"].wait_for('"ready": true', timeout_s=40)
        go_on(socket)
        texts = receive(socket, 20)
        first.send(signal.SIGKILL)
        texts += receive(socket)

    assert texts == undisturbed
    assert len(texts) > 100
    fragile.wait_health(is_ready=True)
    assert_answers(fragile)


def test_killed_server_without_standby_is_a_clear_error_and_its_return_mends_it(
    fragile: Product,
) -> None:
    """kill -9 in mid-stream: some waiting, one sentence; not ready; a new server; answers."""
    daemons = [p for p in fragile.servers["4:8"].family() if "p2pd" in p.name()]
    with streaming(fragile) as socket:
        go_on(socket)
        fragile.kill_server("4:8")
        reply = json.loads(socket.recv(timeout=60))
        while reply["ok"]:
            reply = json.loads(socket.recv(timeout=60))

    assert "\n" not in reply["traceback"]
    assert "no online server holds blocks 4:8" in reply["traceback"]
    assert still_alive(daemons, timeout_s=5) == []

    assert fragile.wait_health(is_ready=False)["reasons"]
    status, answer = fragile.post("/v1/chat/completions", CHAT)
    assert (status, answer["error"]["code"]) == (503, "no_route")
    assert "4:8" in answer["error"]["message"]

    fragile.start_server("4:8")
    fragile.wait_health(is_ready=True)
    assert_answers(fragile)


def test_a_lost_redis_refuses_nobody_and_its_return_needs_nothing(fragile: Product) -> None:
    """Whoever watches is told; callers notice nothing, and nothing has to be restarted."""
    fragile.redis.kill()

    assert_answers(fragile)
    assert fragile.wait_health(is_ready=True)["warnings"]

    fragile.redis.restart()
    assert fragile.wait_health(is_ready=True)["warnings"] == []
    assert_answers(fragile)


def test_drained_server_leaves_without_a_word_of_error(fragile: Product) -> None:
    """SIGTERM announces the end first, so the gateway knows at once what is missing."""
    family: list[psutil.Process] = fragile.servers["0:4"].family()
    family[0].terminate()

    assert still_alive(family, timeout_s=15) == []
    assert fragile.servers["0:4"].wait(timeout_s=5) == 0
    assert fragile.wait_health(is_ready=False)["reasons"]

    fragile.start_server("0:4")
    fragile.wait_health(is_ready=True)
    assert_answers(fragile)
