"""A gateway under its real web server, in the event loop of a test that throws things at it."""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final, TypeVar

import structlog
from hypothesis import settings

from app.gateway import Gateway
from app.main import create_app
from app.settings import LimitSettings, Settings
from app.state.memory import MemoryStateStore
from app.web_server import GatewayWebServer
from tests.harness.scripted_engine import ScriptedEngine, ScriptedNode

MAX_STEP_S: Final = 5.0
"""Longer than anything takes that is not stuck, also on a busy machine."""

Result = TypeVar("Result")


def num_cases(*, short: int, long: int) -> int:
    """Return how many cases to try; to be called by test modules, when the profile is known."""
    return long if settings.get_current_profile_name() == "fuzz" else short


class TalkativeEngine(ScriptedEngine):
    """Never at a loss for a character."""

    def next_character(self) -> str:
        """Return the same one again."""
        return "a"


class _CrashLog(logging.Handler):
    """Keeps what uvicorn has to say about errors of the app."""

    def __init__(self, crashes: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._crashes = crashes

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one, unless it is a caller's fault, of whom uvicorn complains as loudly."""
        if not record.getMessage().startswith("Invalid UTF-8"):
            self._crashes.append(record.getMessage())


class FuzzedGateway:
    """A running gateway and its event loop, which turns only while `run` runs.

    Attributes:
        port: where it listens.
        crashes: log events that say that something was not foreseen.
    """

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.engine = TalkativeEngine()
        parts = Gateway(ScriptedNode(), self.engine, MemoryStateStore())
        limits = LimitSettings(key_tokens_per_minute=0, address_tokens_per_minute=0)
        options = Settings(port=0, limits=limits, resume_s=0, drain_s=0)
        self._app = create_app(options, gateway=lambda _: nullcontext(parts))
        self._started = asyncio.Event()
        self._server = GatewayWebServer(self._app, options, self._started.set)
        self._serving: asyncio.Task[None] | None = None
        self.port = 0
        self.crashes: list[str] = []
        self.crash_log = _CrashLog(self.crashes)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run some work beside the gateway, for `MAX_STEP_S` at most."""
        return self._runner.run(_bounded(work))

    async def start(self) -> None:
        """Return when requests are taken."""
        self._server.config.port = 0
        self._serving = asyncio.create_task(self._server.serve())
        await self._started.wait()
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop as on SIGTERM."""
        self._server.should_exit = True
        assert self._serving is not None, "it was started"
        await self._serving

    async def is_at_rest(self) -> bool:
        """Tell whether nothing is left of all requests and connections, as soon as that is so."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + MAX_STEP_S / 2
        while self.leftovers() and loop.time() < deadline:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        return not self.leftovers()

    def leftovers(self) -> dict[str, int]:
        """Return what there is more of than of a gateway that nobody uses."""
        counts = {
            "conversations": self.engine.num_open,
            "connections": len(self._server.server_state.connections),
            "requests": len(self._server.server_state.tasks),
        }
        return {name: count for name, count in counts.items() if count}

    def log(self, _: object, level: str, event: structlog.typing.EventDict) -> str:
        """Keep what a crash has logged; a structlog processor."""
        if level in ("error", "critical"):
            self.crashes.append(str(event))
        raise structlog.DropEvent


@contextmanager
def fuzzed_gateway() -> Iterator[FuzzedGateway]:
    """Run one until the end of the block."""
    before = structlog.get_config()
    with asyncio.Runner() as runner:
        gateway = runner.run(_made(runner))
        structlog.configure(processors=[gateway.log], cache_logger_on_first_use=False)
        logging.getLogger("uvicorn.error").addHandler(gateway.crash_log)
        try:
            gateway.run(gateway.start())
            yield gateway
            gateway.run(gateway.stop())
        finally:
            logging.getLogger("uvicorn.error").removeHandler(gateway.crash_log)
            structlog.configure(**before)


async def _made(runner: asyncio.Runner) -> FuzzedGateway:
    return FuzzedGateway(runner)


async def _bounded(work: Coroutine[Any, Any, Result]) -> Result:
    async with asyncio.timeout(MAX_STEP_S):
        return await work
