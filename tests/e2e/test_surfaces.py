"""Programs that talk to the running product: old Petals clients, OpenAI's SDK, scripts."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types.chat import ChatCompletionUserMessageParam
from redis import Redis
from websockets.sync.client import ClientConnection, connect

from tests.harness.product import Product

pytestmark = pytest.mark.timeout(90)

QUESTION: Final[ChatCompletionUserMessageParam] = {
    "role": "user",
    "content": "What is the capital of Japan?",
}
STOP = "<|end|>"


@pytest.fixture
def sdk(product: Product) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{product.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def socket(product: Product) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{product.port}/api/v2/generate") as connection:
        yield connection


def ask(socket: ClientConnection, **message: Any) -> Any:
    socket.send(json.dumps(message))
    return json.loads(socket.recv(timeout=30))


def wait_until(holds: Callable[[], bool], *, timeout_s: float = 3) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def num_running(product: Product) -> float:
    """Return how many generations the gateway says are running."""
    with urlopen(f"{product.url}/metrics", timeout=10) as response:
        text = response.read().decode()
    values = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("vllm:num_requests_running")
    ]
    return sum(values)


def test_sdk_gets_an_answer(sdk: OpenAI) -> None:
    """Text, finish reason and usage of a whole answer."""
    answer = sdk.chat.completions.create(model="demo", messages=[QUESTION], temperature=0)

    assert "Tokyo" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_sdk_streams_the_same_answer(sdk: OpenAI) -> None:
    """The deltas together are the answer, and usage comes at the end."""
    options: Any = {"model": "demo", "messages": [QUESTION], "temperature": 0}
    whole = sdk.chat.completions.create(**options)
    chunks = list(
        sdk.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
    )

    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert len([text for text in texts if text]) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage == whole.usage


def test_sdk_errors_are_the_sdks_own(sdk: OpenAI) -> None:
    """Status and body are such that the SDK raises what its users catch."""
    with pytest.raises(NotFoundError, match="demo"):
        sdk.chat.completions.create(model="gpt-9", messages=[QUESTION])
    with pytest.raises(BadRequestError, match="temperature"):
        sdk.chat.completions.create(model="demo", messages=[QUESTION], temperature=-1)


def test_sdk_lists_the_models(sdk: OpenAI) -> None:
    """The demo model is marked as what it is."""
    (model,) = sdk.models.list().data

    assert model.id == "demo"
    assert model.model_dump()["is_demo"] is True


@pytest.mark.parametrize("form", ["form", "query", "json"])
def test_v1_takes_form_query_and_json(product: Product, form: str) -> None:
    """The three ways in which scripts call it give the same answer."""
    fields = {"model": "demo", "inputs": "Once upon a time", "max_new_tokens": 8}
    if form == "json":
        _, answer = product.post("/api/v1/generate", fields)
    else:
        query = urlencode(fields)
        url = f"{product.url}/api/v1/generate"
        address, body = (url, query.encode()) if form == "form" else (f"{url}?{query}", b"")
        with urlopen(address, body, timeout=30) as response:
            answer = json.load(response)

    assert answer["ok"] is True
    assert answer["outputs"]


def test_v1_fails_as_its_clients_expect(product: Product) -> None:
    """Status 200, ok false, one sentence, no traceback."""
    both = {"model": "demo", "inputs": "x", "max_new_tokens": 1, "max_length": 9}

    for body in (both, {"model": "demo", "inputs": "x"}, {"model": "no", "max_new_tokens": 1}):
        status, answer = product.post("/api/v1/generate", body)

        assert (status, answer["ok"]) == (200, False)
        assert "\n" not in answer["traceback"]
        assert "File" not in answer["traceback"]


def test_v2_streams_until_its_stop_sequence(socket: ClientConnection) -> None:
    """The dialogue of Petals' chat page, one token a reply."""
    prompt = f"<|bos|><|user|>{QUESTION['content']}{STOP}<|assistant|>"

    assert ask(socket, type="open_inference_session", model="demo", max_length=256)["ok"] is True
    replies = [ask(socket, type="generate", inputs=prompt, max_new_tokens=1, stop_sequence=STOP)]
    while not replies[-1]["stop"]:
        replies.append(json.loads(socket.recv(timeout=30)))

    text = "".join(reply["outputs"] for reply in replies)
    assert "Tokyo" in text
    assert text.endswith(STOP)
    assert len(replies) > 3
    assert all(reply["ok"] for reply in replies)


def test_v2_continues_its_session(socket: ClientConnection) -> None:
    """A second message sees the first: the KV caches are still there."""
    ask(socket, type="open_inference_session", model="demo", max_length=256)
    first = f"<|bos|><|user|>My name is Zoe.{STOP}<|assistant|>"
    second = f"<|user|>What is my name?{STOP}<|assistant|>"

    for inputs in (first, second):
        text = ""
        reply = ask(socket, type="generate", inputs=inputs, max_new_tokens=1, stop_sequence=STOP)
        while not reply["stop"]:
            text += reply["outputs"]
            reply = json.loads(socket.recv(timeout=30))

    assert "Zoe" in text


@pytest.mark.parametrize(
    "frame", ["{", "[]", '{"type": "dance"}', '{"type": "generate"}', b"\x00\x01"]
)
def test_v2_refuses_nonsense_and_closes(socket: ClientConnection, frame: str | bytes) -> None:
    """One safe sentence, then the connection ends."""
    socket.send(frame)

    reply = json.loads(socket.recv(timeout=10))

    assert reply["ok"] is False
    assert "\n" not in reply["traceback"]


def test_caller_who_leaves_frees_the_session(product: Product) -> None:
    """The running generation ends when its reader does."""
    wait_until(lambda: num_running(product) == 0, timeout_s=10)  # earlier tests' readers left
    with connect(f"ws://127.0.0.1:{product.port}/api/v2/generate") as leaving:
        ask(leaving, type="open_inference_session", model="demo", max_length=2000)
        ask(leaving, type="generate", inputs="Once", max_new_tokens=1, stop_sequence="@@@")
        assert num_running(product) == 1

    wait_until(lambda: num_running(product) == 0)


def test_swarm_view_shows_servers_and_blocks(product: Product) -> None:
    """Who holds what, as the page and operators read it."""
    status, view = product.get("/api/v1/swarm")

    (model,) = view["models"]
    assert (status, model["id"], model["is_reachable"]) == (200, "demo", True)
    assert sorted(server["blocks"] for server in model["servers"]) == [[0, 4], [4, 8]]


def test_open_conversation_is_in_redis_and_a_closed_one_is_not(
    product: Product, socket: ClientConnection
) -> None:
    """Any worker could read it there while its caller is connected."""
    with Redis.from_url(product.redis.url) as redis:
        opened = ask(socket, type="open_inference_session", model="demo", max_length=64)
        journal_id = opened["resume"].split("-")[0]
        assert redis.exists(f"swarmgate:journal:{{{journal_id}}}:entries")

        socket.close()
        mark = f"swarmgate:journal:{{{journal_id}}}:deleted".encode()  # that it was; for a minute
        wait_until(lambda: set(redis.scan_iter(f"swarmgate:journal:*{journal_id}*")) <= {mark})
