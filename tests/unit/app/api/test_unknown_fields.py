"""Fields that no dialect knows, wherever they are sent."""

from typing import Any

import pytest

from tests.harness.scripted_engine import ScriptedEngine, http_client

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "Hi", "max_tokens": 2},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 16},
    "/v1/embeddings": {"input": "Hi"},
    "/v1/messages": CHAT,
    "/v1/messages/count_tokens": {"messages": CHAT["messages"]},
    "/tokenize": {"prompt": "Hi"},
    "/detokenize": {"tokens": [72]},
    "/v1/chat/completions/render": CHAT,
}
STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")


@pytest.mark.parametrize(
    ("path", "is_streamed"),
    [*((path, False) for path in BODIES), *((path, True) for path in STREAMED)],
)
async def test_a_field_that_nobody_knows_is_named_in_a_header(path: str, is_streamed: bool) -> None:
    """The answer is there all the same; a name that no header could hold is left out."""
    made_up = {"x_made_up": {"a": [1]}, "another": None, "bad\r\nname": 1}
    body = {"model": "demo", **BODIES[path], **made_up, **({"stream": True} if is_streamed else {})}
    async with http_client(ScriptedEngine("Hello, all of you!")) as client:
        answer = await client.post(path, json=body)

    assert answer.status_code == 200
    assert answer.headers["x-swarmgate-ignored"] == "another, x_made_up"


@pytest.mark.parametrize("path", BODIES)
async def test_fields_that_are_known_are_not_named(path: str) -> None:
    """Nor is there a header that says nothing."""
    async with http_client(ScriptedEngine("Hello, all of you!")) as client:
        answer = await client.post(path, json={"model": "demo", **BODIES[path]})

    assert answer.status_code == 200
    assert "x-swarmgate-ignored" not in answer.headers
