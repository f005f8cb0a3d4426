"""How soon is the session behind the gateway free when its caller leaves? Three ways to leave."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from statistics import median
from time import monotonic
from typing import Final

from websockets.asyncio.client import connect

from benchmarks.gateway_callers import TOKEN, Target
from benchmarks.gateway_stub import GatewayProcess

_STEP_MS: Final = 20
_NUM_TOKENS_SEEN: Final = 5
_NUM_TRIALS: Final = 20
_TIMEOUT_S: Final = 20.0

Leave = Callable[[int], Awaitable[float]]
"""Asks the gateway at a port, reads `_NUM_TOKENS_SEEN` tokens, leaves, and returns when."""


async def break_off(port: int) -> float:
    """Break a stream's connection off."""
    _, writer, _ = await _read_some(port)
    left_at = monotonic()
    writer.transport.abort()
    return left_at


async def delete_stream(port: int) -> float:
    """Delete a stream by the id of its events, as pages do whose answers can be resumed."""
    _, streaming, event_id = await _read_some(port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    left_at = monotonic()
    writer.write(
        f"DELETE /api/v1/streams/{event_id} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        "connection: close\r\n\r\n".encode()
    )
    assert b" 204 " in await reader.readline()
    writer.close()
    streaming.close()
    return left_at


async def close_socket(port: int) -> float:
    """Close a WebSocket."""
    async with connect(f"ws://127.0.0.1:{port}/api/v2/generate", compression=None) as socket:
        opening = {"type": "open_inference_session", "model": "demo", "max_length": 5000}
        await socket.send(json.dumps(opening))
        await socket.recv()
        request = {"type": "generate", "inputs": str(_STEP_MS), "max_new_tokens": 1}
        await socket.send(json.dumps({**request, "stop_sequence": "###"}))
        for _ in range(_NUM_TOKENS_SEEN):
            await socket.recv()
        return monotonic()


async def measure_cancels(gateway: GatewayProcess, leave: Leave) -> dict[str, float]:
    """Return how late the session is freed, in milliseconds, and in steps beyond those seen."""
    took_ms, num_steps = [], []
    for _ in range(_NUM_TRIALS):
        gateway.watch_freed()
        left_at = await leave(gateway.port)
        freed = await asyncio.to_thread(gateway.next_freed, _TIMEOUT_S)
        took_ms.append((freed.at - left_at) * 1000)
        num_steps.append(freed.num_tokens - _NUM_TOKENS_SEEN)
    return {
        "median_ms": round(median(took_ms), 2),
        "most_ms": round(max(took_ms), 2),
        "most_steps": max(num_steps),
    }


async def _read_some(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """Return a stream of which some tokens have been read, and the id of the last event."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(Target(port).request(step_ms=_STEP_MS, num_tokens=5000))
    num_tokens, event_id = 0, ""
    while num_tokens < _NUM_TOKENS_SEEN:
        line = await reader.readline()
        assert line, "the stream has ended early"
        num_tokens += line.count(TOKEN)
        if line.startswith(b"id: "):
            event_id = line[4:].decode().strip()
    return reader, writer, event_id
