"""How many token events a second can one core of the gateway pass on?

The real app under its real web server, in a process of its own; only the engine is a stub, which
has a token ready whenever it is asked and lets the event loop turn between two. Callers read over
loopback. A core-second is a second of processor time of the gateway's process.
"""

import argparse
import asyncio
import json
import multiprocessing
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from multiprocessing.connection import Connection

import psutil
import uvloop
from websockets.asyncio.client import connect

from app.gateway import Gateway
from app.inference.requests import FinishReason, GenerationEvent, GenerationRequest
from app.observability.logs import configure_logging
from app.settings import LimitSettings, Settings
from app.state.memory import MemoryStateStore
from app.web_server import serve_gateway
from benchmarks.report import print_report
from swarm_client.session.events import EventListener
from tests.harness.scripted_engine import (
    TIMINGS,
    ScriptedConversation,
    ScriptedEngine,
    ScriptedNode,
)

PROMPT = "Hello"


class ReadyConversation(ScriptedConversation):
    """Has every token ready at once."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Yield `max_new_tokens` events."""
        for _ in range(request.max_new_tokens - 1):
            yield GenerationEvent(" word", (5,), None, TIMINGS)
            await asyncio.sleep(0)
        yield GenerationEvent(" end", (6,), FinishReason.LENGTH, TIMINGS)


class ReadyEngine(ScriptedEngine):
    """Opens conversations that have every token ready."""

    async def open(
        self,
        model_id: str,
        *,
        max_length: int,
        tenant: str = "",
        on_event: EventListener | None = None,
    ) -> ReadyConversation:
        """Open one of any length."""
        self.num_open += 1
        return ReadyConversation(self, model_id, max_length)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=16, help="at the same time")
    parser.add_argument("--tokens", type=int, default=2000, help="events of one stream, at most")
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    gateway = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    gateway.start()
    try:
        port: int = ours.recv()
        process = psutil.Process(gateway.pid)
        results = uvloop.run(measure(port, process, arguments.streams, arguments.tokens))
    finally:
        gateway.terminate()
        gateway.join()
    shape = {"streams": arguments.streams, "events_per_stream": arguments.tokens}
    print_report("gateway_events", {**shape, **results})


def serve(parent: Connection) -> None:
    """Run the gateway until SIGTERM; tell its port."""
    configure_logging("json", "warning")
    parts = Gateway(ScriptedNode(), ReadyEngine(), MemoryStateStore())
    limits = LimitSettings(key_tokens_per_minute=0, address_tokens_per_minute=0)
    settings = Settings(port=0, limits=limits)
    uvloop.run(
        serve_gateway(
            settings,
            lambda _, port: parent.send(port),
            gateway=lambda _: nullcontext(parts),
        )
    )


async def measure(
    port: int, process: psutil.Process, num_streams: int, num_tokens: int
) -> dict[str, float]:
    """Return events per core-second of both ways to stream, after a warm-up of each."""
    results: dict[str, float] = {}
    for name, read in (("sse", read_sse), ("websocket", read_websocket)):
        await read(port, num_tokens)
        before = process.cpu_times()
        async with asyncio.TaskGroup() as group:
            for _ in range(num_streams):
                group.create_task(read(port, num_tokens))
        after = process.cpu_times()
        spent_s = after.user + after.system - before.user - before.system
        results[f"{name}_events_per_core_s"] = round(num_streams * num_tokens / spent_s)
    return results


async def read_sse(port: int, num_tokens: int) -> None:
    """Read one stream of server-sent events to its end, and count it."""
    body = json.dumps(
        {
            "model": "demo",
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": num_tokens,
            "stream": True,
        }
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"content-type: application/json\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}".encode()
    )
    received = await reader.read(-1)
    writer.close()
    count = received.count(b'"content":" ')
    assert count == num_tokens, f"{count} events instead of {num_tokens}: {received[:300]!r}"


async def read_websocket(port: int, num_tokens: int) -> None:
    """Read as many replies of one WebSocket session."""
    async with connect(f"ws://127.0.0.1:{port}/api/v2/generate", compression=None) as socket:
        opening = {"type": "open_inference_session", "model": "demo"}
        await socket.send(json.dumps({**opening, "max_length": num_tokens + 100}))
        assert json.loads(await socket.recv())["ok"] is True
        request = {"type": "generate", "inputs": PROMPT, "max_new_tokens": 1}
        await socket.send(json.dumps({**request, "stop_sequence": "###"}))
        for _ in range(num_tokens):
            assert b'"ok":true' in await socket.recv(decode=False)


if __name__ == "__main__":
    main()
