"""Callers on real sockets who ask and then read nothing."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from app.settings import LimitSettings, Settings
from app.web_server import serve_gateway
from tests.harness.scripted_engine import ScriptedEngine, scripted_gateway

SETTINGS = Settings(port=0, resume_s=0, drain_s=0, limits=LimitSettings(slow_reader_s=0.5))
CHAT: Mapping[str, object] = {
    "model": "demo",
    "messages": [{"role": "user", "content": "a"}],
    "stream": True,
    "max_tokens": 200,
}


class LoudEngine(ScriptedEngine):
    """Says 64 KiB per token, so that no buffer holds what it says.

    Attributes:
        is_left: set when the only conversation was closed.
    """

    def __init__(self) -> None:
        self.is_left = asyncio.Event()
        self._num_open = 0
        super().__init__()

    @property
    def num_open(self) -> int:
        """Conversations open now."""
        return self._num_open

    @num_open.setter
    def num_open(self, value: int) -> None:
        if value < self._num_open:
            self.is_left.set()
        self._num_open = value

    def next_character(self) -> str:
        """Return a long word."""
        return "x" * 65_536


@asynccontextmanager
async def _listening(engine: ScriptedEngine) -> AsyncIterator[tuple[int, socket.socket]]:
    """Serve a gateway, and yield its port and its listener; SIGTERM stops it."""
    is_ready = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(
            serve_gateway(
                SETTINGS,
                lambda *_: is_ready.set(),
                gateway=scripted_gateway(engine),
                listener=listener,
            )
        )
        await is_ready.wait()
        yield listener.getsockname()[1], listener
        signal.raise_signal(signal.SIGTERM)
        await serving


def _ask(port: int, head: str, body: bytes) -> socket.socket:
    """Connect, send a request, and read nothing."""
    caller = socket.socket()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    caller.connect(("127.0.0.1", port))
    caller.sendall(f"{head}\r\nHost: gateway\r\n".encode() + body)
    return caller


def _stream(port: int) -> socket.socket:
    data = json.dumps(CHAT).encode()
    head = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    return _ask(port, "POST /v1/chat/completions HTTP/1.1", head + data)


def _websocket(port: int) -> socket.socket:
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    messages = (
        {"type": "open_inference_session", "model": "demo", "max_length": 250},
        {"type": "generate", "inputs": "a", "max_new_tokens": 1, "stop_sequence": "#"},
    )
    caller = _ask(port, "GET /api/v2/generate HTTP/1.1", upgrade)
    assert b" 101 " in caller.recv(4096)
    caller.sendall(b"".join(map(_frame, messages)))
    return caller


def _frame(message: Mapping[str, object]) -> bytes:
    """Return a masked text frame; the mask is zero."""
    data = json.dumps(message).encode()
    length = bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + data


@pytest.mark.parametrize("connect", [_stream, _websocket])
async def test_caller_who_reads_nothing_is_cut_off(
    connect: Callable[[int], socket.socket],
) -> None:
    """Its conversation ends, and nothing more is kept for it."""
    engine = LoudEngine()
    async with _listening(engine) as (port, _):
        with await asyncio.to_thread(connect, port):
            await engine.is_left.wait()

    assert engine.num_open == 0


async def test_kernel_ends_connections_that_are_stuck() -> None:
    """Closing them would keep what is in their buffers; what is accepted inherits the option."""
    async with _listening(LoudEngine()) as (_, listener):
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 500
