"""What a private swarm consists of: which blocks each server holds, and every command line.

Pure but for reading the model's config and asking whether ports are free.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarm_protocol.errors import CheckpointError
from swarm_protocol.identifiers import BlockRange
from swarmgate.errors import TooManyServersError
from swarmgate.listening import open_listener

LOOPBACK: Final = "127.0.0.1"
# -P: a folder named `app` where the command is run must not stand in for ours.
_SWARMGATE: Final = (sys.executable, "-P", "-m", "swarmgate")


@dataclass(frozen=True, slots=True)
class SwarmPlan:
    """Everything that is decided before the first process starts.

    Attributes:
        spans: the blocks of each server, in order.
        threads: torch threads of each process.
        swarm_port: TCP port of the bootstrap, which lives in the gateway.
    """

    model: str
    port: int
    spans: tuple[BlockRange, ...]
    threads: int
    swarm_port: int

    def gateway_command(self, identity: Path) -> list[str]:
        """Return the command line of the gateway, with the bootstrap in it."""
        swarm_maddr = f"/ip4/{LOOPBACK}/tcp/{self.swarm_port}"
        options = {
            "--models": self.model,
            "--host": LOOPBACK,
            "--port": self.port,
            "--host-maddrs": swarm_maddr,
            "--identity": identity,
            "--threads": self.threads,
            "--log-format": "console",
        }
        return [*_SWARMGATE, "gateway", "--new-swarm", *_flatten(options)]

    def server_command(self, span: BlockRange, bootstrap_id: str) -> list[str]:
        """Return the command line of the server that holds `span`."""
        options = {
            "--blocks": span,
            "--initial-peers": f"/ip4/{LOOPBACK}/tcp/{self.swarm_port}/p2p/{bootstrap_id}",
            "--threads": self.threads,
            "--log-format": "console",
        }
        return [*_SWARMGATE, "serve", *_flatten(options), "--", self.model]


def make_plan(model: str, *, port: int, num_servers: int) -> SwarmPlan:
    """Check what can be checked at once, and plan the swarm.

    Raises:
        PortTakenError, TooManyServersError: see the classes.
        CheckpointError: there is no such model.
        CommandError: this user may not listen on the port.
    """
    open_listener(LOOPBACK, port).close()
    spans = divide_blocks(read_num_blocks(model), num_servers)
    threads = max(1, _num_cores() // num_servers)
    return SwarmPlan(model, port, spans, threads, _free_port())


def divide_blocks(num_blocks: int, num_servers: int) -> tuple[BlockRange, ...]:
    """Return one span per server, together all blocks, their sizes at most one apart.

    Raises:
        TooManyServersError: a server would hold nothing.
    """
    if num_servers > num_blocks:
        raise TooManyServersError(num_servers, num_blocks)
    bounds = [i * num_blocks // num_servers for i in range(num_servers + 1)]
    return tuple(map(BlockRange, bounds, bounds[1:]))


def read_num_blocks(model: str) -> int:
    """Return how many blocks the model has, from its config.json alone.

    Raises:
        CheckpointError: there is no such model, its family is not supported, or its config.json
            does not say.
    """
    num_blocks = _read_config(model).get("num_hidden_layers")
    if isinstance(num_blocks, int) and num_blocks > 0:
        return num_blocks
    # Imported here: it brings torch, and only families with another name for it are asked.
    from swarm_client.models import read_facts
    from swarm_protocol.checkpoint import Checkpoint

    return read_facts(Checkpoint.open(model)).num_blocks


def _read_config(model: str) -> dict[str, Any]:
    path = Path(model) / "config.json"
    if path.is_file():
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"config.json of {model!r} is not readable JSON") from error
        return config if isinstance(config, dict) else {}
    # Imported here: it brings torch, and the hub's client if need be; a directory needs neither.
    from swarm_protocol.checkpoint import Checkpoint

    return Checkpoint.open(model).config


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _free_port() -> int:
    with open_listener(LOOPBACK, 0) as listener:
        port: int = listener.getsockname()[1]
    return port


def _flatten(options: dict[str, Any]) -> Sequence[str]:
    return [str(word) for option in options.items() for word in option]
