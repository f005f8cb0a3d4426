"""The chat page's files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from tests.harness.scripted_engine import ScriptedEngine, scripted_gateway


@asynccontextmanager
async def _client(directory: Path) -> AsyncIterator[httpx2.AsyncClient]:
    (directory / "index.html").write_text("<!doctype html>")
    (directory / "main.mjs").write_text("export {};")
    (directory / ".hidden").write_text("secret")
    (directory.parent / "secret.txt").write_text("secret")
    app = create_app(
        Settings(api_keys=(SecretStr("correct-key"),)),
        gateway=scripted_gateway(ScriptedEngine()),
        static_directory=directory,
    )
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        yield client


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    static = tmp_path / "static"
    static.mkdir()
    return static


async def test_page_needs_no_key_and_forbids_foreign_content(directory: Path) -> None:
    """A strict policy comes with it."""
    async with _client(directory) as client:
        answer = await client.get("/")

    assert answer.text == "<!doctype html>"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_modules_are_scripts(directory: Path) -> None:
    """Browsers refuse a module of another type."""
    async with _client(directory) as client:
        answer = await client.get("/static/main.mjs")

    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"


async def test_unchanged_file_is_not_sent_again(directory: Path) -> None:
    """Browsers ask each time."""
    async with _client(directory) as client:
        first = await client.get("/static/main.mjs")
        headers = {"if-none-match": first.headers["etag"]}
        second = await client.get("/static/main.mjs", headers=headers)

    assert first.headers["cache-control"] == "no-cache"
    assert (second.status_code, second.content) == (304, b"")


async def test_head_is_answered(directory: Path) -> None:
    """As for any file."""
    async with _client(directory) as client:
        answer = await client.head("/")

    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../secret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/..%2fsecret.txt",
        "/static//etc/passwd",
        "/static/.hidden",
        "/static/",
        "/static/nothing",
    ],
)
async def test_nothing_outside_the_directory_is_served(directory: Path, path: str) -> None:
    """However it is written."""
    async with _client(directory) as client:
        request = client.build_request("GET", "/")
        raw = request.url.copy_with(raw_path=path.encode())
        answer = await client.send(httpx2.Request("GET", raw))

    assert answer.status_code in (401, 404)
    assert "secret" not in answer.text
