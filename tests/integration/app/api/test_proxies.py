"""Callers behind a proxy, on real sockets: whose address it is that counts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx2
import pytest

from app.settings import LimitSettings, Settings
from app.web_server import serve_gateway
from tests.harness.scripted_engine import ScriptedEngine, scripted_gateway

# A minute's worth and what one request may use are the same: an address has one request.
LIMITS = LimitSettings(address_tokens_per_minute=4, address_burst_tokens=4)
BODY = {"model": "demo", "messages": [{"role": "user", "content": "a"}], "max_tokens": 3}


@asynccontextmanager
async def _client(trusted_proxies: Sequence[str]) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve a gateway, and yield a client that connects from 127.0.0.1."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settings = Settings(port=0, limits=LIMITS, trusted_proxies=tuple(trusted_proxies))
    serving = asyncio.create_task(
        serve_gateway(
            settings,
            lambda _, number: port.set_result(number),
            gateway=scripted_gateway(ScriptedEngine("abc" * 9)),
        )
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{await port}") as client:
            yield client
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _statuses(client: httpx2.AsyncClient, *forwarded_for: str) -> list[int]:
    """Return the status of one chat for each value of the header."""
    return [
        (
            await client.post("/v1/chat/completions", json=BODY, headers={"x-forwarded-for": value})
        ).status_code
        for value in forwarded_for
    ]


@pytest.mark.parametrize("proxies", [("127.0.0.1",), ("10.1.2.3", "127.0.0.0/8")])
async def test_callers_behind_a_trusted_proxy_have_limits_of_their_own(
    proxies: tuple[str, ...],
) -> None:
    """What a caller itself puts into the header is not believed: the proxy's part is the last."""
    async with _client(proxies) as client:
        statuses = await _statuses(
            client, "192.0.2.1", "192.0.2.2", "192.0.2.1", "203.0.113.9, 192.0.2.2"
        )

    assert statuses == [200, 200, 429, 429]


@pytest.mark.parametrize("proxies", [(), ("10.1.2.3",)])
async def test_nobody_else_names_its_own_address(proxies: tuple[str, ...]) -> None:
    """Or a new address for each request would be a way around all limits."""
    async with _client(proxies) as client:
        assert await _statuses(client, "192.0.2.1", "192.0.2.2") == [200, 429]
