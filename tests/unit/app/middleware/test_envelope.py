"""Request ids, fixed headers, and the last resort."""

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from app.middleware.envelope import Envelope


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = scope["state"]["request_id"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def _crash(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("/root/secret.py")


def _client(app: Envelope) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://gateway")


@pytest.mark.parametrize("request_id", ["abc-1.2_3", "A" * 64])
async def test_callers_request_id_is_kept(request_id: str) -> None:
    """It comes back, and the app sees it."""
    async with _client(Envelope(_echo)) as client:
        answer = await client.get("/", headers={"x-request-id": request_id})

    assert answer.headers["x-request-id"] == answer.text == request_id


@pytest.mark.parametrize("request_id", ["", "a b", "A" * 65, "é", "a/b"])
async def test_request_id_that_could_harm_is_replaced(request_id: str) -> None:
    """Logs and headers hold only what fits."""
    async with _client(Envelope(_echo)) as client:
        answer = await client.get("/", headers=[(b"x-request-id", request_id.encode())])

    assert len(answer.text) == 32
    assert answer.text != request_id


async def test_crash_is_an_internal_error_without_facts() -> None:
    """The log knows more."""
    async with _client(Envelope(_crash)) as client:
        answer = await client.get("/v1/models")

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
