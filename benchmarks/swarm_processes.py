"""A gateway and its servers as processes of their own, each with a given number of threads."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness.programs import Program, free_port

_START_S = 120.0


@dataclass(frozen=True, slots=True)
class RunningSwarm:
    """Where the gateway listens, the address of the swarm, and the processes."""

    port: int
    maddr: str
    gateway: Program
    servers: tuple[Program, ...]


@contextmanager
def swarm_processes(
    model: Path, spans: list[str], *, dtype: str, threads: int = 1
) -> Iterator[RunningSwarm]:
    """Run a gateway and one server per span until the end of the block; all are ready then."""
    options = ("--threads", str(threads), "--dtype", dtype)
    port = free_port()
    with ExitStack() as stack:
        gateway = stack.enter_context(
            Program(
                *("gateway", "--new-swarm", "--models", str(model), "--port", str(port)), *options
            )
        )
        maddr = json.loads(gateway.wait_for('"ready": true', timeout_s=_START_S))["maddrs"][0]
        servers = [
            stack.enter_context(
                Program(
                    *("serve", str(model), "--blocks", span, "--initial-peers", maddr), *options
                )
            )
            for span in spans
        ]
        for server in servers:
            server.wait_for('"ready": true', timeout_s=_START_S)
        yield RunningSwarm(port, maddr, gateway, tuple(servers))
