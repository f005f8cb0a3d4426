"""Does the gateway lose or keep anything, while callers come and go and its Redis is killed?

The product: two block servers, Redis, and a gateway of two workers. Callers of all kinds for some
minutes, Redis killed twice; in the end the callers' counts and the gateway's must agree, nothing
may be running, and the workers' memory must have stopped growing.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Final
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.gateway_soak_callers import Fate, SoakCallers
from benchmarks.report import print_report
from tests.harness.programs import DEMO_MODEL, Program, free_port, get_json
from tests.harness.redis_server import RedisServer, redis_server

_START_S: Final = 90.0
_REST_S: Final = 30.0
_AWAY_S: Final = 5.0
_NUM_SAMPLES: Final = 40
_SETTLED_AFTER: Final = 0.4  # part of the time after which memory has to stay flat
_GATEWAY: Final = "gateway"
_DAEMON: Final = "p2pd"


@dataclass(frozen=True, slots=True)
class Stand:
    """What is soaked."""

    port: int
    gateway: Program
    redis: RedisServer

    def resident_mib(self) -> dict[str, float]:
        """Return the memory of the gateway's own processes together, and of their daemons."""
        resident = {_GATEWAY: 0.0, _DAEMON: 0.0}
        for process in self.gateway.family():
            kind = _DAEMON if _DAEMON in process.name() else _GATEWAY
            resident[kind] += process.memory_info().rss / 2**20
        return {kind: round(mib, 1) for kind, mib in resident.items()}


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--callers", type=int, default=12, help="at once")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with running_stand(arguments.workers) as stand:
        results = asyncio.run(soak(stand, arguments.minutes * 60, arguments.callers))
    print_report("gateway_soak", results)


async def soak(stand: Stand, duration_s: float, num_callers: int) -> dict[str, object]:
    """Return what callers and gateway have counted, and the memory over the time."""
    counted_before = await asyncio.to_thread(counted_requests, stand.port)
    callers = SoakCallers(stand.port, Random(7))
    begun_at = time.monotonic()
    memory_mib: list[dict[str, float]] = []

    def is_over() -> bool:
        return time.monotonic() > begun_at + duration_s

    async with asyncio.TaskGroup() as group:
        for _ in range(num_callers):
            group.create_task(callers.come_and_go(is_over))
        group.create_task(_kill_redis(stand.redis, duration_s))
        for _ in range(_NUM_SAMPLES):
            await asyncio.sleep(duration_s / _NUM_SAMPLES)
            memory_mib.append(stand.resident_mib())
    num_running = await _running_at_rest(stand.port)
    counted = await asyncio.to_thread(counted_requests, stand.port)
    tally = callers.tally
    settled = memory_mib[int(_SETTLED_AFTER * len(memory_mib)) :]
    num_counted = sum(counted.values()) - sum(counted_before.values())
    return {
        "minutes": round(duration_s / 60, 1),
        "num_started": tally.num_started,
        **{fate.value: tally.fates[fate] for fate in Fate},
        "counts_add_up": tally.adds_up and num_counted == tally.num_started,
        "failures": dict(tally.failures.most_common(10)),
        "num_counted_by_gateway": num_counted,
        "counted_by_gateway": counted,
        "num_running_at_the_end": num_running,
        "resident_mib": {kind: [mib[kind] for mib in memory_mib] for kind in (_GATEWAY, _DAEMON)},
        "growth_after_settling_mib": {
            kind: round(settled[-1][kind] - settled[0][kind], 1) for kind in (_GATEWAY, _DAEMON)
        },
    }


async def _kill_redis(redis: RedisServer, duration_s: float) -> None:
    """Twice, for some seconds each; what it had acknowledged is there again afterwards."""
    for _ in range(2):
        await asyncio.sleep(duration_s / 3 - _AWAY_S)
        redis.kill()
        await asyncio.sleep(_AWAY_S)
        await asyncio.to_thread(redis.restart)


async def _running_at_rest(port: int) -> float:
    """Return what still runs when callers have been gone for a while."""
    deadline = time.monotonic() + _REST_S
    while True:
        values = await asyncio.to_thread(_samples, port, "vllm:num_requests_running")
        num_running = sum(value for _, value in values)
        if not num_running or time.monotonic() > deadline:
            return num_running
        await asyncio.sleep(0.5)


def counted_requests(port: int) -> dict[str, float]:
    """Return how many requests the gateway says have ended, by outcome."""
    counted: dict[str, float] = {}
    for labels, value in _samples(port, "swarmgate_requests_total"):
        counted[labels["outcome"]] = counted.get(labels["outcome"], 0) + value
    return counted


def _samples(port: int, name: str) -> list[tuple[dict[str, str], float]]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
        text = response.read().decode()
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]


@contextmanager
def running_stand(num_workers: int) -> Iterator[Stand]:
    """Run servers, Redis and gateway until the end of the block; they are ready when it begins."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(keeps_data=True))
        first = stack.enter_context(_server("0:4", "--new-swarm"))
        facts = json.loads(first.wait_for('"ready": true', timeout_s=_START_S))
        peer: str = facts["maddrs"][0]
        second = stack.enter_context(_server("4:8", "--initial-peers", peer))
        second.wait_for('"ready": true', timeout_s=_START_S)
        port = free_port()
        gateway = stack.enter_context(
            Program(
                *("gateway", "--models", DEMO_MODEL, "--port", str(port), "--threads", "1"),
                *("--workers", str(num_workers), "--redis-url", redis.url),
                *("--initial-peers", peer),
            )
        )
        gateway.wait_for('"ready": true', timeout_s=_START_S)
        _wait_ready(port, gateway)
        yield Stand(port, gateway, redis)


def _server(span: str, *arguments: str) -> Program:
    return Program("serve", DEMO_MODEL, "--blocks", span, "--threads", "1", *arguments)


def _wait_ready(port: int, gateway: Program) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        try:
            if get_json(f"http://127.0.0.1:{port}/health/ready")["ready"]:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the gateway is not ready:\n{gateway.output[-2000:]}")


if __name__ == "__main__":
    main()
