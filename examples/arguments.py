"""What every example is told: which model, where its swarm is, and how long to train."""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.request import urlopen

GATEWAY: Final = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Arguments:
    """Of one run. `num_steps` and `output` matter only where something is trained."""

    model: str
    initial_peers: tuple[str, ...]
    num_steps: int
    output: Path


def read_arguments(
    description: str | None, *, num_steps: int | None = None, needs_swarm: bool = True
) -> Arguments:
    """Read the command line.

    Args:
        description: of the example, for `--help`.
        num_steps: default number of training steps; None where nothing is trained.
        needs_swarm: whether the example joins a swarm that is there already.

    Raises:
        SystemExit: the arguments are wrong, or there is no swarm.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="models/demo", help="directory, or hub repository")
    if needs_swarm:
        parser.add_argument(
            "--initial-peers", nargs="+", help=f"multiaddrs of the swarm; default: ask {GATEWAY}"
        )
    if num_steps is not None:
        parser.add_argument("--steps", type=int, default=num_steps, help="of training")
        parser.add_argument("--output", type=Path, help="directory for what was trained")
    chosen = vars(parser.parse_args())
    peers = (chosen["initial_peers"] or ask_gateway(GATEWAY)) if needs_swarm else ()
    return Arguments(
        model=chosen["model"],
        initial_peers=tuple(peers),
        num_steps=chosen.get("steps", 0),
        output=chosen.get("output") or Path(tempfile.mkdtemp(prefix="swarmgate-example-")),
    )


def ask_gateway(url: str) -> list[str]:
    """Return addresses of the swarm that a gateway belongs to.

    Raises:
        SystemExit: no gateway answers.
    """
    try:
        with urlopen(f"{url}/api/v1/swarm", timeout=10) as answer:
            return list(json.load(answer)["maddrs"])
    except OSError:
        raise SystemExit(
            f"no gateway answers at {url}: start one with `make up`, or give --initial-peers"
        ) from None
