"""The real gateway under its real web server, in a process and on a core of its own, with a stub
for an engine: it emits at the rate that each prompt asks for, so only the gateway is measured.
"""

import asyncio
import multiprocessing
import os
import resource
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any, Final

import psutil
import uvloop

from app.gateway import Gateway
from app.inference.requests import FinishReason, GenerationEvent, GenerationRequest
from app.observability.logs import configure_logging
from app.settings import LimitSettings, Settings
from app.state.memory import MemoryStateStore
from app.web_server import serve_gateway
from swarm_client.session.events import EventListener
from tests.harness.scripted_engine import (
    TIMINGS,
    ScriptedConversation,
    ScriptedEngine,
    ScriptedNode,
)

GATEWAY_CORE: Final = 0
CALLERS_CORE: Final = 1
_TICK_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Freed:
    """A conversation was closed: when, on the monotonic clock, and after how many tokens."""

    at: float
    num_tokens: int


class PacedConversation(ScriptedConversation):
    """Emits a token each so many milliseconds as the prompt says; prompt "0": whenever asked.

    A paced token's text is the time at which it was due, in microseconds: `@123;`. A late event
    loop does not shift the next token. Tokens come in batches, as those of an engine do.
    """

    def __init__(self, engine: "PacedEngine", model_id: str, max_length: int) -> None:
        super().__init__(engine, model_id, max_length)
        self._paced_engine = engine
        self._num_emitted = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Yield `max_new_tokens` events."""
        step_s = int("".join(map(chr, request.prompt_ids))) / 1000
        due_at = monotonic() // _TICK_S * _TICK_S
        for number in range(1, request.max_new_tokens + 1):
            is_last = number == request.max_new_tokens
            reason = FinishReason.LENGTH if is_last else None
            text = f"@{int(due_at * 1e6)};" if step_s else "@ word"
            self._num_emitted = number
            yield GenerationEvent(text, (5,), reason, TIMINGS)
            due_at += step_s
            await (self._paced_engine.batch_of(due_at) if step_s else asyncio.sleep(0))

    async def close(self) -> None:
        """Close, and note when."""
        if not self.is_closed:
            self._paced_engine.tell_freed(Freed(monotonic(), self._num_emitted))
        await super().close()


class PacedEngine(ScriptedEngine):
    """Opens conversations that keep their pace; `tell_freed` is told of those that are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tell_freed: Callable[[Freed], None] = _tell_nobody
        self._loop = asyncio.get_running_loop()
        self._batches: dict[int, list[asyncio.Future[None]]] = {}  # by the tick they are due at
        self._last_tick = int(monotonic() / _TICK_S)

    def batch_of(self, due_at: float) -> asyncio.Future[None]:
        """Return what ends when the batch of tokens is made that are due at that time."""
        made: asyncio.Future[None] = self._loop.create_future()
        tick = max(round(due_at / _TICK_S), self._last_tick + 1)
        self._batches.setdefault(tick, []).append(made)
        return made

    async def run(self) -> None:
        """Make the batches, until cancelled."""
        while True:
            await asyncio.sleep((self._last_tick + 1) * _TICK_S - monotonic())
            last_tick, self._last_tick = self._last_tick, int(monotonic() / _TICK_S)
            for tick in range(last_tick + 1, self._last_tick + 1):
                for made in self._batches.pop(tick, ()):
                    if not made.done():
                        made.set_result(None)

    async def open(
        self,
        model_id: str,
        *,
        max_length: int,
        tenant: str = "",
        on_event: EventListener | None = None,
    ) -> PacedConversation:
        """Open one of any length."""
        self.num_open += 1
        return PacedConversation(self, model_id, max_length)


class GatewayProcess:
    """A running gateway.

    Attributes:
        port: where it listens, on loopback.
        process: to read its memory and processor time.
    """

    def __init__(self, pipe: Connection, pid: int) -> None:
        self._pipe = pipe
        self.port: int = pipe.recv()
        self.process = psutil.Process(pid)

    def watch_freed(self) -> None:
        """Make `next_freed` return the next conversation that is closed from now on."""
        self._pipe.send("watch")

    def next_freed(self, timeout_s: float) -> Freed:
        """Wait for it; blocks.

        Raises:
            TimeoutError: none was closed.
        """
        if not self._pipe.poll(timeout_s):
            raise TimeoutError
        freed: Freed = self._pipe.recv()
        return freed

    def resident_bytes(self) -> int:
        """Return its resident memory."""
        return int(self.process.memory_info().rss)


@contextmanager
def gateway_process(**settings: Any) -> Iterator[GatewayProcess]:
    """Run a gateway with a paced engine until the end of the block.

    Args:
        settings: of the gateway, beyond the limits, which are off. `Any`: `Settings` checks them.
    """
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, settings))
    child.start()
    theirs.close()
    assert child.pid is not None, "it has been started"
    try:
        yield GatewayProcess(ours, child.pid)
    finally:
        child.terminate()
        child.join(20)


def pin(core: int) -> None:
    """Keep this process on one core, if there are two, and let it open as many files as it may."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _serve(parent: Connection, given: Mapping[str, Any]) -> None:
    """Run the gateway until SIGTERM; tell its port, and then what is asked."""
    pin(GATEWAY_CORE)
    configure_logging("json", "error")
    limits = LimitSettings(
        key_tokens_per_minute=0,
        address_tokens_per_minute=0,
        address_generations=0,
        address_connections=0,
        max_generations=100_000,
        max_conversations=100_000,
    )
    settings = Settings(port=0, limits=limits, drain_s=0.1, **given)
    uvloop.run(_serve_paced(parent, settings))


async def _serve_paced(parent: Connection, settings: Settings) -> None:
    engine = PacedEngine()
    parts = Gateway(ScriptedNode(), engine, MemoryStateStore())

    def tell_once(freed: Freed) -> None:
        engine.tell_freed = _tell_nobody
        parent.send(freed)

    def watch() -> None:
        parent.recv()
        engine.tell_freed = tell_once

    def on_ready(_: Gateway, port: int) -> None:
        asyncio.get_running_loop().add_reader(parent.fileno(), watch)
        parent.send(port)

    running = asyncio.create_task(engine.run())
    await serve_gateway(settings, on_ready, gateway=lambda _: nullcontext(parts))
    running.cancel()
    await asyncio.wait({running})


def _tell_nobody(freed: Freed) -> None:
    """Most measurements do not ask."""
