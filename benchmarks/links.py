"""How many tokens a second over slow links, when servers push to each other and when not?

The demo model; a client and three servers on hosts of their own, with emulated links between all of
them. A step of `P` hops takes `sum(c) + 2 P d` through the client and `sum(c) + (P + 1) d` pushed,
where `d` is half of the round trip, and `sum(c)` is what a step takes over perfect links.
"""

import argparse
import asyncio
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final
from unittest.mock import patch

import torch

from benchmarks.report import print_report
from swarm_client.lanes import Lanes
from tests.harness.network.emulated_network import EmulatedNetwork, emulated_network
from tests.harness.network.link import LinkTerms
from tests.harness.network.linked_swarm import linked_client, linked_swarm
from tests.harness.programs import DEMO_MODEL

_SPANS: Final = ("0:3", "3:6", "6:8")
_PROMPT_TOKENS: Final = 32


class Way(StrEnum):
    """How hidden states go from one server to the next."""

    PUSHED = "pushed"
    VIA_CLIENT = "via_client"


_NUM_LINKS: Final = {Way.PUSHED: len(_SPANS) + 1, Way.VIA_CLIENT: 2 * len(_SPANS)}
"""Crossed by a step."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round-trips", type=float, nargs="+", default=[25, 100], metavar="MS")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of one generation")
    parser.add_argument("--rounds", type=int, default=3, help="generations of each kind")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with emulated_network(2 + len(_SPANS)) as network:
        rows = asyncio.run(measure_swarm(network, arguments))
    shortfall = {"shortfall": network.shortfall} if network.shortfall else {}
    print_report("links", {"num_servers": len(_SPANS), "rows": rows, **shortfall})


async def measure_swarm(
    network: EmulatedNetwork, arguments: argparse.Namespace
) -> list[dict[str, object]]:
    """Run a swarm; return a row for each round trip, the first one being zero."""
    client_host, *hosts = network.hosts
    times: dict[tuple[float, Way], list[float]] = {
        (round_trip_ms, way): [] for round_trip_ms in (0.0, *arguments.round_trips) for way in Way
    }
    with linked_swarm(DEMO_MODEL, _SPANS, hosts) as peers:
        async with linked_client(DEMO_MODEL, client_host, peers[0].maddr) as client:
            prompt = client.prompt(0, _PROMPT_TOKENS)
            await client.generate(prompt, arguments.tokens)  # warms up
            for _ in range(arguments.rounds):
                for (round_trip_ms, way), seconds in times.items():
                    network.shape_all(LinkTerms(delay_s=round_trip_ms / 2e3))
                    with chained(way):
                        made = await client.generate(prompt, arguments.tokens)
                    seconds.extend(made.seconds[1:])
    step_ms = {kind: 1e3 * statistics.median(seconds) for kind, seconds in times.items()}
    return [compare(step_ms, round_trip_ms) for round_trip_ms in (0.0, *arguments.round_trips)]


@contextmanager
def chained(way: Way) -> Iterator[None]:
    """Let sessions that are opened in the block have their servers push outputs on, or not."""
    if way is Way.PUSHED:
        yield
    else:
        with patch.object(Lanes, "chain", lambda _lanes, sessions: sessions):
            yield


def compare(step_ms: dict[tuple[float, Way], float], round_trip_ms: float) -> dict[str, object]:
    """Return what was measured beside what the arithmetic says."""
    row: dict[str, object] = {"round_trip_ms": round_trip_ms}
    for way in Way:
        expected_ms = step_ms[0.0, way] + _NUM_LINKS[way] * round_trip_ms / 2
        row |= {
            f"{way}_ms": round(step_ms[round_trip_ms, way], 1),
            f"{way}_expected_ms": round(expected_ms, 1),
            f"{way}_tokens_per_s": round(1e3 / step_ms[round_trip_ms, way], 2),
        }
    return row


if __name__ == "__main__":
    main()
