"""What each worker is told. Pure.

All workers have the same settings, but for what two processes cannot share: the key in the swarm,
the ports they listen on there, and their part of the processor and of the memory.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.settings import ENV_PREFIX, Settings
from swarmgate.errors import OptionError

_PORT: Final = re.compile(r"(?<=/tcp/|/udp/)\d+")
_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class WorkersPlan:
    """Everything about the workers that is decided before the first one starts.

    Attributes:
        settings: of all.
        environment: theirs, with what was given on our command line; holds secrets.
        metrics_directory: where they count together.
        num_cores: of this machine.
    """

    settings: Settings
    environment: Mapping[str, str]
    metrics_directory: Path
    num_cores: int

    def command(self, index: int, listener_fd: int) -> list[str]:
        """Return the command line of a worker, which inherits the listening socket."""
        # -P: a folder named `app` where the command is run must not stand in for ours.
        module = ("-P", "-m", "swarmgate.workers.worker")
        return [sys.executable, *module, str(index), str(listener_fd)]

    def environment_of(self, index: int, siblings: Sequence[str]) -> dict[str, str]:
        """Return the environment of a worker.

        Args:
            siblings: multiaddrs of the other workers, by which it finds the swarm, too.
        """
        settings = self.settings
        own: dict[str, Any] = {
            "host_maddrs": shift_ports(settings.host_maddrs, index),
            "announce_maddrs": shift_ports(settings.announce_maddrs, index),
            "initial_peers": (*settings.initial_peers, *siblings),
            "threads": settings.threads or max(1, self.num_cores // settings.workers),
        }
        if settings.identity is not None and index > 0:
            own["identity"] = settings.identity.with_name(f"{settings.identity.name}.{index}")
        # Read by prometheus_client when it is imported.
        together = {"PROMETHEUS_MULTIPROC_DIR": str(self.metrics_directory)}
        return {**self.environment, **as_environment(own), **together}


def as_environment(given: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as environment variables. An empty list is written as nothing at all."""
    return {f"{ENV_PREFIX}{name.upper()}": _as_text(value) for name, value in given.items()}


def shift_ports(maddrs: Iterable[str], index: int) -> tuple[str, ...]:
    """Return the multiaddrs of worker `index`: ports count up from the first one's; 0 stays.

    Raises:
        OptionError: the port would be over 65535.
    """
    return tuple(_PORT.sub(lambda match: _shift(match[0], index), maddr) for maddr in maddrs)


def _shift(port: str, index: int) -> str:
    shifted = int(port) and int(port) + index
    if shifted > _MAX_PORT:
        raise OptionError(f"worker {index} would need port {shifted}; begin with a lower one")
    return str(shifted)


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return json.dumps(value) if value else ""
    return str(value)
