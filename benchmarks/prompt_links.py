"""How long until the first token of a long prompt over slow links, and how much comes back?

A client and two servers on hosts of their own, with emulated links between all of them; hidden
states are as wide as those of an 8B model, its blocks few and narrow. A prompt's outputs come back
from the last server whole, or only those of its last token.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from unittest.mock import patch

import torch

from benchmarks.random_llama import LlamaShape, save_random_llama
from benchmarks.report import print_report
from swarm_protocol.dialect import decode_reply
from tests.harness.churn_client import ChurnClient
from tests.harness.network.emulated_network import EmulatedNetwork, emulated_network
from tests.harness.network.link import LinkTerms
from tests.harness.network.linked_swarm import linked_client, linked_swarm

_SHAPE: Final = LlamaShape(
    hidden_size=4096,
    intermediate_size=512,
    num_blocks=2,
    num_heads=32,
    num_kv_heads=8,
    vocab_size=2000,
)
_SPANS: Final = ("0:1", "1:2")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[20.0], metavar="MBIT_PER_S")
    parser.add_argument("--tokens", type=int, default=1000, help="of the prompt")
    parser.add_argument("--rounds", type=int, default=3, help="prompts of each kind")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        save_random_llama(Path(directory), _SHAPE)
        with emulated_network(2 + len(_SPANS)) as network:
            rows = asyncio.run(measure_swarm(network, directory, arguments))
    shortfall = {"shortfall": network.shortfall} if network.shortfall else {}
    print_report("prompt_links", {"prompt_tokens": arguments.tokens, "rows": rows, **shortfall})


async def measure_swarm(
    network: EmulatedNetwork, model: str, arguments: argparse.Namespace
) -> list[dict[str, object]]:
    """Run a swarm; return a row for each rate, both ways by turns."""
    client_host, *hosts = network.hosts
    rows: list[dict[str, object]] = []
    with linked_swarm(model, _SPANS, hosts, dtype="bfloat16") as peers:
        async with linked_client(
            model, client_host, peers[0].maddr, dtype=torch.bfloat16
        ) as client:
            await first_token(client, arguments.tokens, seed=0, only_last=False)  # warms up
            for rate in arguments.rates:
                network.shape_all(LinkTerms(delay_s=0.01, rate_bytes_per_s=rate * 1e6 / 8))
                rows += [{"mbit_per_s": rate} | await by_turns(client, arguments)]
    return rows


async def by_turns(client: ChurnClient, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the times to the first token and the bytes that came back, of both ways."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    received_bytes: dict[bool, int] = {}
    for seed in range(arguments.rounds):
        for only_last, times in seconds.items():
            with received_frames() as sizes:
                times.append(
                    await first_token(client, arguments.tokens, seed=seed, only_last=only_last)
                )
            received_bytes[only_last] = sum(sizes)
    return {
        "all_s": round(statistics.median(seconds[False]), 2),
        "only_last_s": round(statistics.median(seconds[True]), 2),
        "all_bytes": received_bytes[False],
        "only_last_bytes": received_bytes[True],
    }


async def first_token(client: ChurnClient, num_tokens: int, *, seed: int, only_last: bool) -> float:
    """Run a prompt; return the seconds until the logits of its last token are there."""
    embeds = client.parts.embed(torch.tensor([client.prompt(seed, num_tokens)]))
    async with await client.remote.open_session(max_length=num_tokens + 1) as session:
        began_at = time.perf_counter()
        outputs = await session.step(embeds, only_last=only_last)
        client.parts.logits(outputs[:, -1])
        return time.perf_counter() - began_at


@contextmanager
def received_frames() -> Iterator[list[int]]:
    """Yield a list of the sizes of all frames that come back in the block."""
    sizes: list[int] = []

    def noted(data: bytes) -> object:
        sizes.append(len(data))
        return decode_reply(data)

    with patch("swarm_client.lanes.lane.decode_reply", noted):
        yield sizes


if __name__ == "__main__":
    main()
