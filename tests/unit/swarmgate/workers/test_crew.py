"""Workers as real processes, tiny ones, that answer on the port they inherit."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from os import environ, kill
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from app.settings import Settings
from swarmgate.errors import ChildDiedError
from swarmgate.workers.crew import Crew
from swarmgate.workers.plan import WorkersPlan

ANSWERING: Final = """
import json, os, socket, sys
index, fd = sys.argv[1:]
print(json.dumps({"ready": True, "url": "http://x", "peer_id": f"peer-{index}",
                  "maddrs": [f"/ip4/127.0.0.1/tcp/1/p2p/peer-{index}"]}), flush=True)
listener = socket.socket(fileno=int(fd))
while True:
    caller, _ = listener.accept()
    caller.sendall(json.dumps({"pid": os.getpid(), "index": index,
                               "peers": os.environ["SWARMGATE_INITIAL_PEERS"]}).encode())
    caller.close()
"""
DYING: Final = "import sys; sys.exit('swarmgate: worker: there is no such model')"


@dataclass(frozen=True, slots=True)
class TinyPlan(WorkersPlan):
    """Workers that run some lines of Python."""

    source: str = ANSWERING

    def command(self, index: int, listener_fd: int) -> list[str]:
        """Return the command line of a tiny worker."""
        return [sys.executable, "-S", "-c", self.source, str(index), str(listener_fd)]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound


def plan(directory: Path, source: str = ANSWERING) -> TinyPlan:
    settings = Settings(redis_url="redis://127.0.0.1:1", workers=2, drain_s=0.1)  # type: ignore[arg-type]
    return TinyPlan(settings, dict(environ), directory, 2, source)


@asynccontextmanager
async def running(crew: Crew) -> AsyncIterator[None]:
    task = asyncio.create_task(crew.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def ask(listener: socket.socket) -> dict[str, Any]:
    """Return what a worker answers, whichever takes the connection."""
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    answer: dict[str, Any] = json.loads(await reader.read())
    writer.close()
    return answer


async def until(is_true: Callable[[], bool]) -> None:
    """Let processes run until they have made it true."""
    async with asyncio.timeout(10):
        while not is_true():  # noqa: ASYNC110 - processes have no event to wait for
            await asyncio.sleep(0.01)


async def test_the_ready_line_comes_once_all_workers_serve(
    tmp_path: Path, listener: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    """It names the swarm's addresses of all; later workers knew those of earlier ones."""
    printed: list[str] = []

    def has_printed() -> bool:
        printed.append(capfd.readouterr().out)
        return '"ready": true' in "".join(printed)

    async with running(Crew(plan(tmp_path), listener)):
        await until(has_printed)
        answers = [await ask(listener) for _ in range(20)]

    line = next(line for line in "".join(printed).splitlines() if '"ready": true' in line)
    assert json.loads(line) == {
        "ready": True,
        "url": "http://x",
        "peer_id": "peer-0",
        "maddrs": [f"/ip4/127.0.0.1/tcp/1/p2p/peer-{index}" for index in (0, 1)],
        "workers": 2,
    }
    assert {a["peers"] for a in answers if a["index"] == "0"} <= {""}
    assert {a["peers"] for a in answers if a["index"] == "1"} <= {
        '["/ip4/127.0.0.1/tcp/1/p2p/peer-0"]'
    }


async def test_a_killed_worker_is_replaced_and_no_caller_waits_for_it(
    tmp_path: Path, listener: socket.socket
) -> None:
    """The others take the connections meanwhile; the new one joins by them."""
    crew = Crew(plan(tmp_path), listener)
    async with running(crew):
        await until(lambda: len(crew.serving) == 2)
        first = crew.serving[0]
        kill(first, signal.SIGKILL)
        await until(lambda: not psutil.pid_exists(first))  # it takes connections to its last moment
        for _ in range(20):
            assert (await ask(listener))["pid"] != first
        await until(lambda: crew.serving.get(0, first) != first)

        answers = [await ask(listener) for _ in range(40)]

    assert {answer["peers"] for answer in answers if answer["index"] == "0"} <= {
        '["/ip4/127.0.0.1/tcp/1/p2p/peer-1"]'
    }


async def test_a_worker_that_never_serves_ends_the_command(
    tmp_path: Path, listener: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    """Restarting it would not help; its last words are on stderr."""
    with pytest.raises(ExceptionGroup) as caught:
        await Crew(plan(tmp_path, DYING), listener).run()

    assert caught.group_contains(ChildDiedError, match="worker 0 ended with exit code 1")
    assert "there is no such model" in capfd.readouterr().err


async def test_when_the_crew_ends_no_worker_is_left(
    tmp_path: Path, listener: socket.socket
) -> None:
    """Each is told to drain, and waited for."""
    crew = Crew(plan(tmp_path), listener)
    async with running(crew):
        await until(lambda: len(crew.serving) == 2)
        pids = list(crew.serving.values())

    for pid in pids:
        with pytest.raises(ProcessLookupError):
            kill(pid, 0)
