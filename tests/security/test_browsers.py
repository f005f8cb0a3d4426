"""Promises to people with browsers: pages of other sites get nothing, and ours run nothing else."""

import httpx2
import pytest
from pydantic import SecretStr

from app.errors import CLOSE_POLICY
from app.settings import Settings
from tests.harness.asgi_callers import SocketCaller
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app

SITE = "https://chat.example.org"
EVIL = "https://evil.example.org"
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "x-any"}
LISTED = Settings(origins=(SITE,))


async def _post(origin: str, settings: Settings | None = None) -> httpx2.Response:
    async with http_client(ScriptedEngine(), settings) as client:
        return await client.post("/v1/chat/completions", json=CHAT, headers={"origin": origin})


async def test_foreign_page_cannot_make_a_gateway_generate() -> None:
    """Not even blindly: a form, or a text/plain POST, needs no preflight."""
    answer = await _post(EVIL)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")


@pytest.mark.parametrize("origin", [SITE, "http://gateway"])
async def test_listed_site_and_own_page_may_generate(origin: str) -> None:
    """The list of SWARMGATE_ORIGINS is all there is to set."""
    assert (await _post(origin, LISTED)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/api/v1/swarm", "/metrics", "/", "/health/ready"])
async def test_no_answer_is_shared_with_other_sites_by_default(path: str) -> None:
    """CORS is closed: a browser keeps the answer from the page."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.get(path, headers={"origin": EVIL})
        asked = await client.options(path, headers={"origin": EVIL, **PREFLIGHT})

    shared = [name for name in (*answer.headers, *asked.headers) if name.startswith("access-")]
    assert shared == []


async def test_listed_site_passes_preflight_without_a_key_and_others_do_not() -> None:
    """A preflight has no key; the request behind it needs one."""
    settings = Settings(origins=(SITE,), api_keys=(SecretStr("correct-key"),))
    async with http_client(ScriptedEngine(), settings) as client:
        listed, foreign = [
            await client.options("/v1/chat/completions", headers={"origin": origin, **PREFLIGHT})
            for origin in (SITE, EVIL)
        ]
        without_key = await client.post("/v1/chat/completions", json=CHAT, headers={"origin": SITE})

    assert listed.headers["access-control-allow-origin"] == SITE
    assert "access-control-allow-credentials" not in listed.headers
    assert "access-control-allow-origin" not in foreign.headers
    assert without_key.status_code == 401


async def test_foreign_page_cannot_open_a_websocket() -> None:
    """A handshake knows no CORS, so the gateway itself looks at the Origin (CWE-1385)."""
    async with (
        running_app(ScriptedEngine(), LISTED) as app,
        SocketCaller(app, {"origin": EVIL}) as caller,
    ):
        assert (await caller.reply())["ok"] is False
        assert await caller.close_code() == CLOSE_POLICY


async def test_page_that_was_rebound_to_us_gets_nothing() -> None:
    """DNS rebinding: name and Origin agree, but the name is somebody else's."""
    async with http_client(ScriptedEngine()) as client:
        headers = {"host": "rebound.evil.example", "origin": "http://rebound.evil.example"}
        answers = [
            await client.get("/v1/models", headers=headers),
            await client.get("/api/v1/swarm", headers={"host": "rebound.evil.example"}),
            await client.post("/v1/chat/completions", json=CHAT, headers=headers),
        ]

    assert [answer.status_code for answer in answers] == [403, 403, 403]


@pytest.mark.parametrize("path", ["/", "/static/index.html", "/v1/models", "/nothing"])
async def test_every_answer_has_a_strict_policy(path: str) -> None:
    """No inline script, nothing from elsewhere, no frame around it, no guessing of types."""
    async with http_client(ScriptedEngine()) as client:
        headers = (await client.get(path)).headers

    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


async def test_no_request_carries_rights_by_itself() -> None:
    """There are no cookies; with them, a foreign page would act in its reader's name."""
    async with http_client(ScriptedEngine()) as client:
        answers = [
            await client.get("/"),
            await client.get("/v1/models"),
            await client.post("/v1/chat/completions", json=CHAT),
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert not any("set-cookie" in answer.headers for answer in answers)
