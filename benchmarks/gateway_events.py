"""How many token events a second can one core of the gateway pass on?

The real app under its real web server, in a process of its own; only the engine is a stub, which
has a token ready whenever it is asked and lets the event loop turn between two. Callers read over
loopback. A core-second is a second of processor time of the gateway's process.
"""

import argparse
import asyncio
import json

import psutil
import uvloop
from websockets.asyncio.client import connect

from benchmarks.gateway_stub import gateway_process
from benchmarks.report import print_report

PROMPT = "0"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=16, help="at the same time")
    parser.add_argument("--tokens", type=int, default=2000, help="events of one stream, at most")
    arguments = parser.parse_args()
    with gateway_process() as gateway:
        results = uvloop.run(
            measure(gateway.port, gateway.process, arguments.streams, arguments.tokens)
        )
    shape = {"streams": arguments.streams, "events_per_stream": arguments.tokens}
    print_report("gateway_events", {**shape, **results})


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
    count = received.count(b'"content":"@')
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
