"""Callers whose path or method is not quite right."""

import pytest

from tests.harness.scripted_engine import ScriptedEngine, http_client


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/models", "/v1/models"),
        ("/docs", "/openapi.json"),
        ("/health", "/health/ready"),
    ],
)
async def test_a_path_that_is_nearly_ours_is_told_the_right_one(path: str, meant: str) -> None:
    """One sentence says what is at the path, and which one is like it."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(path, json={})

    message = answer.json()["error"]["message"]
    assert answer.status_code == 404
    assert message == f"there is nothing at this path; did you mean {meant}?"


@pytest.mark.parametrize(
    "path", ["/nowhere", "/v1", "/v1/v1", "/v1/<script>", "//models", "/v1/v1/x"]
)
async def test_what_is_like_none_of_ours_gets_no_hint(path: str) -> None:
    """And never sees its own text again."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.get(f"http://gateway{path}")

    assert answer.json()["error"]["message"] == "there is nothing at this path"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/responses/resp_1", "DELETE, GET, HEAD"),
        ("POST", "/static/style/theme.css", "GET, HEAD"),
        ("DELETE", "/tokenize", "POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allowed: str) -> None:
    """Those of all routes of the path, in the message and in the header that HTTP has for it."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.request(method, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["error"]["message"] == f"this path takes {allowed}"


async def test_a_request_at_the_path_of_a_websocket_is_told_so() -> None:
    """With the header that HTTP has for it."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.get("/api/v2/generate")

    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert "WebSocket" in answer.json()["error"]["message"]


async def test_a_file_that_is_not_there_has_no_wrong_method() -> None:
    """Its route takes GET."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.get("/static/nothing.css")

    assert answer.status_code == 404
