"""Promises about connections: nobody holds one with nothing, or fills the memory through it."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError
from websockets.frames import CloseCode

from app.main import create_app
from app.open_connections import OpenConnections
from app.settings import LimitSettings, Settings
from app.web_server import GatewayHttpProtocol, GatewayWebServer, serve_gateway
from tests.harness.scripted_engine import ScriptedEngine, scripted_gateway

HANDSHAKE = (
    b"GET /api/v2/generate HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n"
    b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
HEAD = b"GET / HTTP/1.1\r\nhost: gateway\r\n"


class _HastyProtocol(GatewayHttpProtocol):
    head_timeout_s = 0.1


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def _connection(
    protocol: type[GatewayHttpProtocol],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve a tiny app with the gateway's protocol, and connect to it."""
    config = uvicorn.Config(_answer, http=protocol, lifespan="off", log_config=None)
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()

    def serve() -> asyncio.Protocol:
        return protocol(config=config, server_state=state, app_state={}, _loop=loop)

    server = await loop.create_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()


@pytest.mark.parametrize("sent", [b"", b"GET", HEAD, b"\r\n"])
async def test_head_that_does_not_end_in_time_ends_the_connection(sent: bytes) -> None:
    """Slowloris: many connections that are never complete would hold all places."""
    async with _connection(_HastyProtocol) as (reader, writer):
        writer.write(sent)

        assert await reader.read() == b""


@pytest.mark.parametrize("line", [b"x-many: 1\r\n", b"a"])
async def test_head_without_end_is_refused(line: bytes) -> None:
    """Many headers, or one that goes on and on."""
    async with _connection(GatewayHttpProtocol) as (reader, writer):
        writer.write(HEAD + (b"" if line.endswith(b"\n") else b"x-long: "))
        writer.write(line * (140_000 // len(line)))

        rest = b""
        with suppress(ConnectionResetError):  # what we sent too much was never read
            rest = await reader.read()

        assert not rest or rest.startswith(b"HTTP/1.1 400")


async def test_complete_heads_are_answered_one_after_the_other() -> None:
    """The time for a head begins anew with each request of a connection."""
    async with _connection(_HastyProtocol) as (reader, writer):
        for _ in range(3):
            writer.write(HEAD + b"\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")

        writer.write(HEAD)
        assert await reader.read() == b""


@asynccontextmanager
async def _listening(settings: Settings | None = None) -> AsyncIterator[str]:
    """Serve a gateway with the real web server; yield the address of its WebSocket."""
    is_ready = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(
            serve_gateway(
                settings or Settings(port=0, drain_s=0),
                lambda *_: is_ready.set(),
                gateway=scripted_gateway(ScriptedEngine()),
                listener=listener,
            )
        )
        await is_ready.wait()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/api/v2/generate"
        signal.raise_signal(signal.SIGTERM)
        await serving


async def test_websockets_are_not_compressed() -> None:
    """Nothing small unpacks into something large, whatever the caller offers."""
    async with _listening() as url, connect(url, compression="deflate") as client:
        assert client.protocol.extensions == []


async def test_a_message_without_end_ends_its_websocket() -> None:
    """No more than 1 MiB is read of it; what is above 256 KiB gets a sentence."""
    async with _listening() as url, connect(url, compression=None) as client:
        await client.send("x" * 2**21)
        with pytest.raises(ConnectionClosedError) as closed:
            await client.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == CloseCode.MESSAGE_TOO_BIG


async def test_a_websocket_whose_peer_answers_no_ping_is_closed() -> None:
    """It may have lost its power, and would hold its place for ever."""
    is_ready = asyncio.Event()
    settings = Settings(port=0, drain_s=0)
    app = create_app(settings, gateway=scripted_gateway(ScriptedEngine()))
    server = GatewayWebServer(app, settings, is_ready.set)
    assert server.config.ws_ping_interval == 25
    server.config.port = 0
    server.config.ws_ping_interval = server.config.ws_ping_timeout = 0.05
    serving = asyncio.create_task(server.serve())
    await is_ready.wait()

    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    frames = await reader.read()
    writer.close()
    server.should_exit = True
    await serving

    ping, close = b"\x89", b"\x88"
    assert frames.startswith(ping)
    assert close in frames


FEW = Settings(
    port=0,
    drain_s=0,
    trusted_proxies=(),
    limits=LimitSettings(address_tcp_connections=2, address_connections=3),
)


class _Connection:
    """A connection that asks whether the gateway lives, and stays open."""

    async def ask(self, url: str) -> int:
        """Return the status."""
        host, _, port = url.split("/")[2].partition(":")
        self._reader, self._writer = await asyncio.open_connection(host, port)
        self._writer.write(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        return int((await self._reader.readline()).split()[1])

    async def end(self) -> None:
        """Close it, and wait until the gateway has forgotten it: it closes its side then."""
        with suppress(OSError):  # a refused one has been reset
            self._writer.write_eof()
            await self._reader.read()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


async def test_an_address_has_so_many_connections_and_no_more() -> None:
    """It could else take all file descriptors; one that ends makes room."""
    connections = [_Connection() for _ in range(4)]
    async with _listening(FEW) as url:
        statuses = [await connection.ask(url) for connection in connections[:3]]
        await connections[0].end()
        statuses.append(await connections[3].ask(url))
        for connection in connections[1:]:
            await connection.end()

    assert statuses == [200, 200, 429, 200]


async def test_websockets_take_no_places_of_other_connections() -> None:
    """They have a limit of their own."""
    async with _listening(FEW) as url, connect(url), connect(url), connect(url):
        connection = _Connection()
        assert await connection.ask(url) == 200
        await connection.end()


def test_a_trusted_proxy_may_have_any_number_of_connections() -> None:
    """It speaks for all callers; what it is not told to trust is counted, IPv6 by network."""
    connections = OpenConnections(1, exempt=("10.0.0.0/8", "::1"))

    assert all(connections.open(address) for address in ("10.1.2.3", "10.1.2.3", "::1", "::1"))
    assert [connections.open(a) for a in ("2001:db8::1", "2001:db8::2")] == [True, False]
    connections.close("2001:db8::1")
    assert connections.open("2001:db8::2")
