"""Callers whose base URL is not quite right."""

import pytest

from tests.harness.scripted_engine import ScriptedEngine, http_client


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/models", "/v1/models"),
    ],
)
async def test_a_base_url_with_too_much_or_too_little_is_told(path: str, meant: str) -> None:
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
