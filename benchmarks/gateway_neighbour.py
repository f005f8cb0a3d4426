"""LiteLLM's proxy under the same callers, on the same core, before a stub of a provider.

What it adds is the difference to the provider asked directly. It runs one worker, without keys,
database or callbacks, from an environment of its own; `scripts/install-neighbour-gateway` makes it.
"""

import asyncio
import json
import multiprocessing
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, cast
from urllib.request import urlopen

import psutil
import uvloop

from benchmarks.gateway_callers import Answer, Target, ask_at_rate, in_ms
from benchmarks.gateway_events import read_sse
from benchmarks.gateway_stub import CALLERS_CORE, GATEWAY_CORE, pin

ENVIRONMENT: Final = Path(__file__).parents[1] / ".litellm-venv"
_START_S: Final = 120.0
_RATES_PER_S: Final = (20.0, 200.0)  # it keeps up with the first only, so it comes first
_NUM_STREAMS: Final = 8
_NUM_TOKENS: Final = 500
_NAMES_NOT_PASSED_ON: Final = ("PROXY", "OTEL", "DATABASE")


class NeighbourError(Exception):
    """The proxy does not run here."""


class Provider(asyncio.Protocol):
    """Answers every request with as many tokens as it asks for, each in a write of its own."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._received = b""
        self._tasks = set[asyncio.Task[None]]()

    def data_received(self, data: bytes) -> None:
        """Answer a request once all of it is there."""
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        lengths = [
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        if head.startswith(b"GET "):  # it asks for the models' limits now and then
            self._received = b""
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        elif lengths and len(body) >= lengths[0]:
            self._received = b""
            task = asyncio.create_task(self._answer(json.loads(body)["max_tokens"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, num_tokens: int) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        self._transport.write(_chunk(_event({"role": "assistant", "content": ""}, None)))
        for number in range(num_tokens):  # the proxy ends an answer that repeats a text 100 times
            self._transport.write(_chunk(_event({"content": f"@ word {number}"}, None)))
            await asyncio.sleep(0)
        self._transport.write(_chunk(_event({}, "length") + b"data: [DONE]\n\n") + _chunk(b""))


def measure_neighbour(duration_s: float) -> dict[str, object] | None:
    """Return latency and events a second of the proxy; None if it is not installed."""
    if not (ENVIRONMENT / "bin" / "litellm").exists():
        return None
    with _provider() as provider_port, _proxy(provider_port) as (port, process):
        uvloop.run(ask_at_rate(Target(port), rate_per_s=5, duration_s=3, num_tokens=8))
        events = uvloop.run(_events(port, process))
        latency = {
            f"at_{rate:g}_per_s": uvloop.run(
                _added(Target(provider_port), Target(port), rate, duration_s)
            )
            for rate in _RATES_PER_S
        }
        resident_mib = round(sum(part.memory_info().rss for part in _family(process)) / 2**20)
    return {
        "version": _version(),
        "first_token_added": latency,
        "sse_events_per_core_s": events,
        "resident_mib": resident_mib,
    }


async def _added(
    provider: Target, proxy: Target, rate_per_s: float, duration_s: float
) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, target in (("provider_alone", provider), ("through_proxy", proxy)):
        answers, num_failed = await ask_at_rate(
            target, rate_per_s=rate_per_s, duration_s=duration_s, num_tokens=8
        )
        found[name] = {**in_ms([_took_s(answer) for answer in answers]), "num_failed": num_failed}
    return found


def _took_s(answer: Answer) -> float:
    return answer.first_token_at - answer.sent_at


async def _events(port: int, process: psutil.Process) -> int:
    await read_sse(port, _NUM_TOKENS)
    before = _spent_s(process)
    async with asyncio.TaskGroup() as group:
        for _ in range(_NUM_STREAMS):
            group.create_task(read_sse(port, _NUM_TOKENS))
    return round(_NUM_STREAMS * _NUM_TOKENS / (_spent_s(process) - before))


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _spent_s(process: psutil.Process) -> float:
    times = [part.cpu_times() for part in _family(process)]
    return sum(spent.user + spent.system for spent in times)


@contextmanager
def _provider() -> Iterator[int]:
    """Run the stub of a provider beside the callers; yield its port."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_provide, args=(theirs,))
    child.start()
    try:
        yield ours.recv()
    finally:
        child.terminate()
        child.join()


def _provide(parent: Connection) -> None:
    pin(CALLERS_CORE)

    async def listen() -> None:
        server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
        parent.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(listen())


@contextmanager
def _proxy(provider_port: int) -> Iterator[tuple[int, psutil.Process]]:
    """Run the proxy on the gateway's core; yield its port and process when it answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    parameters = {
        "model": "openai/demo",
        "api_base": f"http://127.0.0.1:{provider_port}/v1",
        "api_key": "none",
    }
    offered = {"model_list": [{"model_name": "demo", "litellm_params": parameters}]}
    passed_on = {
        name: value
        for name, value in os.environ.items()
        if not any(part in name.upper() for part in _NAMES_NOT_PASSED_ON)
    }
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "config.yaml"
        config.write_text(json.dumps(offered))
        process = subprocess.Popen(
            [
                *(f"{ENVIRONMENT}/bin/litellm", "--config", str(config), "--port", str(port)),
                *("--host", "127.0.0.1", "--num_workers", "1"),
            ],
            cwd=directory,
            env={
                **passed_on,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # do not fetch prices
                "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # as ours: no keys
                "LITELLM_LOG": "ERROR",
                "LITELLM_MODE": "PRODUCTION",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.sched_setaffinity(process.pid, {GATEWAY_CORE})
        try:
            _wait_alive(port, process)
            yield port, psutil.Process(process.pid)
        finally:
            if process.poll() is None:
                for part in reversed(_family(psutil.Process(process.pid))):
                    part.terminate()
                process.wait(20)


def _wait_alive(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait for the proxy; a `NeighbourError` says that it has ended, or takes too long."""
    deadline = time.monotonic() + _START_S
    while process.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
        if time.monotonic() > deadline:
            break
    raise NeighbourError("the proxy did not start")


def _version() -> str:
    code = "import importlib.metadata as m; print(m.version('litellm'))"
    command = [f"{ENVIRONMENT}/bin/python", "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return str(told.stdout).strip()


def _event(delta: dict[str, str], reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    frame = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "demo"}
    event = json.dumps({**frame, "choices": [choice]}, separators=(",", ":"))
    return b"data: " + event.encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
