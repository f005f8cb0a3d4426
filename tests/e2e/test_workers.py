"""Two workers behind one port: one is killed in mid-stream, the other goes on; then it is back."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from http.client import HTTPConnection
from typing import Any, Final
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.e2e.test_two_gateways import CHAT, GREEDY, SEEDED, Reader, is_ready, undisturbed
from tests.harness.programs import DEMO_MODEL, Program, free_port, get_json, still_alive
from tests.harness.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.timeout(150)

_START_S: Final = 60.0
ADMIN_KEY: Final = "an-admin-key-for-tests"


class Workers:
    """Two servers, Redis, and a gateway of two workers, which is the swarm's bootstrap, too."""

    def __init__(self, stack: ExitStack) -> None:
        self.redis: RedisServer = stack.enter_context(redis_server())
        self.port: int = free_port()
        self.program = stack.enter_context(
            Program(
                *("gateway", "--new-swarm", "--workers", "2", "--models", DEMO_MODEL),
                *("--port", str(self.port), "--threads", "1", "--dtype", "float32"),
                *("--redis-url", self.redis.url),
            )
        )
        self.facts = json.loads(self.program.wait_for('"ready": true', timeout_s=_START_S))
        for span in ("0:4", "4:8"):
            server = Program(
                *("serve", DEMO_MODEL, "--blocks", span, "--dtype", "float32", "--threads", "1"),
                *("--initial-peers", self.facts["maddrs"][0]),
            )
            stack.enter_context(server).wait_for('"ready": true', timeout_s=_START_S)
        self.wait(lambda: is_ready(self.port))

    def processes(self) -> list[psutil.Process]:
        """Return the workers that live."""
        parent = self.program.family()[0]
        return [child for child in parent.children() if "swarmgate.workers.worker" in cmd(child)]

    def worker_of(self, reader: Reader) -> psutil.Process:
        """Return the worker at the other end of a reader's connection."""
        ours = reader.local_port
        for process in self.processes():
            for connection in process.net_connections("tcp"):
                if connection.raddr and connection.raddr.port == ours:
                    return process
        raise AssertionError(f"no worker has the connection from port {ours}")

    def wait(self, is_true: Callable[[], bool], timeout_s: float = _START_S) -> None:
        """Wait until it is so."""
        deadline = time.monotonic() + timeout_s
        while not is_true():
            assert time.monotonic() < deadline, self.program.output
            time.sleep(0.05)

    def metric(self, pattern: str) -> float:
        """Return the sum of the samples that match, as any worker shows them."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(pattern, line))


def cmd(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """The running gateway."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SWARMGATE_ADMIN_KEYS", ADMIN_KEY)
        yield Workers(stack)


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_a_killed_worker_costs_no_token_and_is_replaced(
    workers: Workers, sampling: dict[str, Any]
) -> None:
    """The client connects again to the same port, and gets every token once."""
    workers.wait(lambda: len(workers.processes()) == 2)
    body = {**CHAT, **sampling}
    expected = undisturbed(workers, body)
    ended = r"swarmgate_requests_total\{.*(stop|length)"
    num_before = workers.metric(ended)
    reader, heir = Reader(body), Reader(body)

    with reader.ask(workers) as response:
        reader.read(response, max_events=12)
        doomed = workers.worker_of(reader)
        doomed.send_signal(signal.SIGKILL)
        reader.read(response)
    first_part = reader.text
    with reader.ask(workers) as response:
        reader.read(response)
    with heir.ask(workers) as response:
        heir.read(response)

    assert reader.is_done
    assert 0 < len(first_part) < len(expected)
    assert reader.text == heir.text == expected
    workers.wait(lambda: workers.metric(ended) == num_before + 2, timeout_s=10)
    workers.program.wait_for('"event": "worker_restarting"', timeout_s=5)
    workers.wait(lambda: len(workers.processes()) == 2 and doomed not in workers.processes())


def test_one_worker_makes_the_canary_tokens(workers: Workers) -> None:
    """The other one is ready by what it hears."""
    workers.wait(lambda: len(workers.processes()) == 2)

    assert workers.program.output.count('"is_leading": true') >= 1
    for _ in range(6):  # whichever worker answers
        assert get_json(f"http://127.0.0.1:{workers.port}/health/ready")["ready"]


def test_streams_outlive_a_redis_that_loses_everything(workers: Workers) -> None:
    """One goes on, one begins meanwhile; afterwards any worker has both from their beginning."""
    workers.wait(lambda: len(workers.processes()) == 2)
    body = {**CHAT, **GREEDY}
    expected = undisturbed(workers, body)
    readers = [Reader(body), Reader(body)]

    with readers[0].ask(workers) as response:
        readers[0].read(response, max_events=12)
        workers.redis.kill()
        readers[0].read(response)
    with readers[1].ask(workers) as response:
        readers[1].read(response)
    assert [reader.text for reader in readers] == [expected, expected]
    workers.redis.restart()

    for reader in readers:
        assert reader.last_id is not None
        path = f"/api/v1/streams/{reader.last_id.split('-')[0]}"
        for _ in range(6):  # whichever worker answers
            workers.wait(partial(has_whole, workers, path, expected), timeout_s=20)


def has_whole(workers: Workers, path: str, expected: str) -> bool:
    """Tell whether a stream that has ended can be read from its beginning to its end."""
    again = Reader({})
    with closing(HTTPConnection("127.0.0.1", workers.port, timeout=30)) as calls:
        calls.request("GET", path)
        with calls.getresponse() as response:
            if response.status == 200:
                again.read(response)
            response.read()
    return again.is_done and again.text == expected


def test_a_model_that_goes_is_gone_from_all_workers_and_comes_back(workers: Workers) -> None:
    """By the admin API, at whichever worker."""
    url = f"http://127.0.0.1:{workers.port}"

    def ids() -> set[str]:
        """What several answers say, for each may come from another worker."""
        answers = [get_json(f"{url}/v1/models")["data"] for _ in range(8)]
        return {model["id"] for models in answers for model in models} | {
            f"{len(models)} models" for models in answers
        }

    def admin(method: str, path: str, body: dict[str, str] | None = None) -> int:
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{url}/api/v1/admin/models{path}", data, headers, method=method)
        with urlopen(request, timeout=30) as response:
            return int(response.status)

    assert admin("DELETE", "/demo") == 202
    workers.wait(lambda: ids() == {"0 models"}, timeout_s=20)
    assert admin("POST", "", {"source": DEMO_MODEL}) == 201
    workers.wait(lambda: ids() == {"demo", "1 models"}, timeout_s=30)
    workers.wait(lambda: is_ready(workers.port))


def test_sigterm_drains_all_workers(workers: Workers) -> None:
    """A running answer ends; then nothing is left of them, and the exit code is 0."""
    workers.wait(lambda: len(workers.processes()) == 2)
    family, reader = workers.program.family(), Reader({**CHAT, **GREEDY, "max_tokens": 40})

    with reader.ask(workers) as response:
        reader.read(response, max_events=3)
        workers.program.send(signal.SIGTERM)
        reader.read(response)

    assert reader.is_done
    assert workers.program.wait(timeout_s=30) == 0
    assert still_alive(family, timeout_s=5) == []
