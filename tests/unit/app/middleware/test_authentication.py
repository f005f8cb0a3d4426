"""Where a request may have its key."""

import pytest
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from tests.harness.asgi_callers import RequestCaller, SocketCaller

SETTINGS = Settings(api_keys=(SecretStr("a-long-key"),))


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer a-long-key"},
        {"authorization": "bearer  a-long-key "},
        {"x-api-key": "a-long-key"},
        {"api-key": "a-long-key"},
    ],
)
async def test_keys_come_in_the_header_of_each_dialect(headers: dict[str, str]) -> None:
    """OpenAI's, Anthropic's, Azure's."""
    async with RequestCaller(create_app(SETTINGS), "/nowhere", headers=headers) as caller:
        assert await caller.status() == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Basic a-long-key"},
        {"authorization": "a-long-key"},
        {"authorization": "Bearer another-key", "x-api-key": "a-long-key"},
        {"cookie": "key=a-long-key"},
    ],
)
async def test_nothing_else_is_a_key(headers: dict[str, str]) -> None:
    """One header counts; there is no second try."""
    async with RequestCaller(create_app(SETTINGS), "/nowhere", headers=headers) as caller:
        assert await caller.status() == 401


async def test_page_gives_its_key_as_a_subprotocol_of_a_websocket() -> None:
    """Browsers let it set no header; the key is not sent back."""
    caller = SocketCaller(create_app(SETTINGS), subprotocols=["swarmgate", "key.wrong-key"])
    async with caller:
        assert "API key" in (await caller.reply())["traceback"]
    assert caller.subprotocol == "swarmgate"
