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


@dataclass(frozen=True, slots=True)
class Freed:
    """A conversation was closed: when, on the monotonic clock, and after how many tokens."""

    at: float
    num_tokens: int


class PacedConversation(ScriptedConversation):
    """Emits a token each so many milliseconds as the prompt says; prompt "0": whenever asked.

    A paced token's text is the time at which it was due, in microseconds: `@123;`. A late event
    loop does not shift the next token.
    """

    def __init__(self, engine: "PacedEngine", model_id: str, max_length: int) -> None:
        super().__init__(engine, model_id, max_length)
        self._paced_engine = engine
        self._num_emitted = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Yield `max_new_tokens` events."""
        step_s = int("".join(map(chr, request.prompt_ids))) / 1000
        due_at = monotonic()
        for number in range(1, request.max_new_tokens + 1):
            is_last = number == request.max_new_tokens
            reason = FinishReason.LENGTH if is_last else None
            text = f"@{due_at * 1e6:.0f};" if step_s else "@ word"
            self._num_emitted = number
            yield GenerationEvent(text, (5,), reason, TIMINGS)
            due_at += step_s
            await asyncio.sleep(max(0.0, due_at - monotonic()) if step_s else 0)

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
    engine = PacedEngine()
    limits = LimitSettings(
        key_tokens_per_minute=0,
        address_tokens_per_minute=0,
        max_generations=100_000,
        max_conversations=100_000,
    )
    settings = Settings(port=0, limits=limits, drain_s=0.1, **given)
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

    uvloop.run(serve_gateway(settings, on_ready, gateway=lambda _: nullcontext(parts)))


def _tell_nobody(freed: Freed) -> None:
    """Most measurements do not ask."""
