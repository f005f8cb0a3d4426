"""The requests that Open WebUI sends to an OpenAI server, in its order.

Its backend lists the models, streams a chat, asks without a stream for a title and for tags, and
closes the connection when the user presses stop. A browser in its "direct connections" mode asks
for permission first (OPTIONS). Bodies and headers as of Open WebUI 0.6.
"""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import pytest

from tests.harness.product import Product

pytestmark = pytest.mark.timeout(90)

HEADERS: Final = {
    "Content-Type": "application/json",
    "Authorization": "Bearer none",
    "X-OpenWebUI-User-Name": "Zoe",
    "X-OpenWebUI-User-Role": "admin",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "Python/3.11 aiohttp/3.12.15",
}
ASK: Final = {"role": "user", "content": "What is the capital of Japan?"}
TITLE_PROMPT: Final = (
    "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n"
    'JSON format: { "title": "your concise title here" }\n### Chat History:\n<chat_history>\n'
    "USER: What is the capital of Japan?\nASSISTANT: Tokyo.\n</chat_history>"
)


@contextmanager
def answer_to(
    product: Product, method: str, path: str, body: object = None, **headers: str
) -> Iterator[http.client.HTTPResponse]:
    """Send one request, and close its connection behind the block."""
    connection = http.client.HTTPConnection("127.0.0.1", product.port, timeout=30)
    with closing(connection):
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {**HEADERS, **headers})
        with connection.getresponse() as response:
            yield response


def chat(*messages: dict[str, str], **fields: Any) -> dict[str, Any]:
    """Return the body of a chat as it is streamed."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return {**options, "model": "demo", "messages": list(messages), **fields}


def frames_of(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the chunks as they come, and check that the stream says where it ends."""
    for line in response:
        if line.startswith(b"data: [DONE]"):
            return
        if line.startswith(b"data: "):
            yield json.loads(line[6:])
    raise AssertionError("the stream has ended without [DONE]")


def text_of(frames: list[dict[str, Any]]) -> str:
    """Return what the page shows."""
    choices = [choice for frame in frames for choice in frame["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def read_chat(product: Product, *messages: dict[str, str]) -> list[dict[str, Any]]:
    """Return all chunks of a chat."""
    with answer_to(product, "POST", "/v1/chat/completions", chat(*messages)) as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(frames_of(response))


def test_it_finds_the_model_to_choose(product: Product) -> None:
    """`object`, `data` and `id` are what its list is made of."""
    with answer_to(product, "GET", "/v1/models") as response:
        models = json.load(response)

    assert (response.status, models["object"]) == (200, "list")
    assert [(model["id"], model["object"]) for model in models["data"]] == [("demo", "model")]
    assert all(model["owned_by"] for model in models["data"])


def test_a_chat_streams_and_ends_with_its_usage(product: Product) -> None:
    """The page shows tokens a second from it."""
    frames = read_chat(product, ASK)

    assert "Tokyo" in text_of(frames)
    assert frames[-1]["choices"] == []
    assert frames[-1]["usage"]["completion_tokens"] > 0
    assert [c["finish_reason"] for f in frames for c in f["choices"]][-1] == "stop"


def test_title_and_tags_are_asked_for_without_a_stream(product: Product) -> None:
    """With a limit by its newer name, and the id of the chat, which changes nothing."""
    body = chat({"role": "user", "content": TITLE_PROMPT}, max_completion_tokens=32)
    del body["stream_options"]

    with answer_to(product, "POST", "/v1/chat/completions", {**body, "stream": False}) as response:
        answer = json.load(response)

    assert response.status == 200
    assert isinstance(answer["choices"][0]["message"]["content"], str)


def test_stop_breaks_off_and_the_next_chat_is_answered(product: Product) -> None:
    """The half of an answer that was shown goes along as history."""
    story = {"role": "user", "content": "Tell me a story about a fox named Lily."}
    with answer_to(product, "POST", "/v1/chat/completions", chat(story)) as response:
        frames = frames_of(response)
        shown = text_of([next(frames) for _ in range(8)])

    assert shown
    history = ({"role": "assistant", "content": shown}, ASK)
    assert "Tokyo" in text_of(read_chat(product, story, *history))


def test_an_error_is_a_sentence_to_show(product: Product) -> None:
    """It looks for `error.message`, or `detail`."""
    with answer_to(product, "POST", "/v1/chat/completions", chat(ASK, model="gone")) as response:
        error = json.load(response)["error"]

    assert response.status == 404
    assert "gone" in error["message"] or "demo" in error["message"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions"])
def test_a_browser_of_another_site_gets_no_permission(product: Product, path: str) -> None:
    """CORS is closed unless told otherwise; the answer is a refusal, not a crash."""
    with answer_to(
        product,
        "OPTIONS",
        path,
        **{
            "Origin": "https://chat.example.org",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    ) as response:
        response.read()

    assert 400 <= response.status < 500
    assert "access-control-allow-origin" not in response.headers


def test_a_look_at_the_address_is_answered(product: Product) -> None:
    """Checks of a connection use HEAD."""
    with answer_to(product, "HEAD", "/health/live") as response:
        body = response.read()

    assert response.status in (200, 405)
    assert body == b""
