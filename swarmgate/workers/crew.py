"""Runs the workers of one gateway: starts them, restarts those that end, drains them together."""

import asyncio
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import multiprocess

from app.settings import Settings
from swarm_protocol.errors import SwarmError
from swarmgate.errors import ChildDiedError
from swarmgate.listening import open_listener
from swarmgate.service import print_ready
from swarmgate.supervisor.child import Child, end_all
from swarmgate.workers.pauses import Pauses
from swarmgate.workers.plan import WorkersPlan, as_environment

log = structlog.get_logger(__name__)

_GRACE_S: Final = 10.0  # over the time to drain: closing sockets, sessions and the daemon


async def run_workers(settings: Settings, given: Mapping[str, Any]) -> None:
    """Serve with `settings.workers` processes until cancelled, then drain all of them.

    Args:
        given: settings from the command line, which the workers' environment does not have.

    Raises:
        PortTakenError: another program listens on the port.
        ChildDiedError: a worker ended before all of them had served; later ones are restarted.
    """
    metrics_directory = Path(tempfile.mkdtemp(prefix="swarmgate-metrics-"))
    environment = {**os.environ, **as_environment(given)}
    plan = WorkersPlan(settings, environment, metrics_directory, os.cpu_count() or 1)
    failure: BaseException | None = None
    try:
        with open_listener(settings.host.strip("[]"), settings.port) as listener:
            await Crew(plan, listener).run()
    except* SwarmError as errors:
        failure = errors.exceptions[0]
    finally:
        shutil.rmtree(metrics_directory, ignore_errors=True)
    if failure is not None:
        raise failure


class Crew:
    """The workers of one gateway. Made and run in the main thread: they die with it."""

    def __init__(self, plan: WorkersPlan, listener: socket.socket) -> None:
        self._plan = plan
        self._listener = listener
        self._children: dict[int, Child] = {}
        self._facts: dict[int, dict[str, Any]] = {}  # ready lines of those that serve now
        self._has_news = asyncio.Event()
        self._is_complete = False  # all have served at the same time, once

    @property
    def serving(self) -> dict[int, int]:
        """The process ids of the workers that serve now, by index."""
        return {index: self._children[index].pid for index in self._facts}

    async def run(self) -> None:
        """Keep all workers running until cancelled; in the end none is left."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._announce())
                for index in range(self._plan.settings.workers):
                    group.create_task(self._keep(index), name=f"worker {index}")
        finally:
            await end_all(
                list(self._children.values()), grace_s=self._plan.settings.drain_s + _GRACE_S
            )

    async def _announce(self) -> None:
        """Print the ready line once all serve."""
        num_workers = self._plan.settings.workers
        while len(self._facts) < num_workers:
            self._has_news.clear()
            await self._has_news.wait()
        self._is_complete = True
        facts = [self._facts[index] for index in range(num_workers)]
        print_ready(
            url=facts[0]["url"],
            peer_id=facts[0]["peer_id"],
            maddrs=[maddr for fact in facts for maddr in fact["maddrs"]],
            workers=num_workers,
        )

    async def _keep(self, index: int) -> None:
        """Run worker `index` again and again."""
        pauses = Pauses()
        while True:
            await self._wait_for_swarm(index)
            pause_s = pauses.after(await self._run_once(index))
            log.warning("worker_restarting", worker=index, pause_s=pause_s)
            await asyncio.sleep(pause_s)

    async def _wait_for_swarm(self, index: int) -> None:
        """The first worker begins a new swarm, unless there is one; the others join it."""
        while index > 0 and not self._plan.settings.initial_peers and not self._siblings(index):
            self._has_news.clear()
            await self._has_news.wait()

    async def _run_once(self, index: int) -> float:
        """Run worker `index` until it ends; return how many seconds it has lived.

        Raises:
            ChildDiedError: it has ended before all of them had served.
        """
        child = await self._start(index)
        serving = asyncio.create_task(self._note_ready(index, child))
        started_at = time.monotonic()
        try:
            await child.watch()
        except ChildDiedError as error:
            if not self._is_complete:
                raise
            log.error("worker_ended", worker=index, returncode=error.returncode)
            return time.monotonic() - started_at
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            self._facts.pop(index, None)
            if child.returncode is not None:
                del self._children[index]
                self._forget_gauges(child.pid)

    async def _start(self, index: int) -> Child:
        fd = self._listener.fileno()
        child = await Child.start(
            f"worker {index}",
            self._plan.command(index, fd),
            None,
            environment=self._plan.environment_of(index, self._siblings(index)),
            inherited_fds=(fd,),
        )
        self._children[index] = child
        return child

    async def _note_ready(self, index: int, child: Child) -> None:
        self._facts[index] = await child.ready()
        log.info("worker_ready", worker=index, pid=child.pid)
        self._has_news.set()

    def _siblings(self, index: int) -> tuple[str, ...]:
        """Return the swarm's addresses of the other workers that serve now."""
        others = (facts for other, facts in self._facts.items() if other != index)
        return tuple(maddr for facts in others for maddr in facts["maddrs"])

    def _forget_gauges(self, pid: int) -> None:
        """What it had running has ended; its counters stay."""
        with suppress(OSError):
            multiprocess.mark_process_dead(  # type: ignore[no-untyped-call]
                pid, str(self._plan.metrics_directory)
            )
