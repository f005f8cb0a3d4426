"""Promises about keys: what is told to whoever guesses, and where they are never looked for."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

import app
from app.settings import Settings
from tests.harness.scripted_engine import ScriptedEngine, http_client

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
