"""Does a generation survive the death of its servers, and what does its reader notice?

On the demo model, 4 stages x 2 servers, each a process. `kills`: seeded kills, every trial against
an undisturbed run. `history`: how the gap grows with what must be replayed. `goodput`: tokens per
second when servers die at random, against starting over. Killed servers are started again.
`rolling`: all servers are restarted one after the other, each with a SIGTERM, during one stream.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import ceil
from typing import Final

import torch

from benchmarks.churn_goodput import measure_goodput
from benchmarks.churn_history import measure_history
from benchmarks.churn_kills import run_kills
from benchmarks.churn_rolling import measure_rolling
from benchmarks.report import print_report
from swarm_client.settings import RoutingSettings
from tests.harness.churn_client import ChurnClient, churn_client
from tests.harness.churn_swarm import ChurnSwarm
from tests.harness.programs import DEMO_MODEL

_WANTED_DEATHS: Final = 8
SPANS: Final = ("0:2", "2:4", "4:6", "6:8")


def main() -> None:
    """Run one of the benchmarks."""
    arguments = read_arguments()
    torch.set_num_threads(1)
    commands = {"kills": kills, "history": history, "goodput": goodput, "rolling": rolling}
    results = asyncio.run(commands[arguments.command](arguments))
    print_report(f"churn_{arguments.command}", {"dtype": arguments.dtype, **results})


def read_arguments() -> argparse.Namespace:
    """Return the command and its options."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    kills_parser = commands.add_parser("kills")
    kills_parser.add_argument("--kills", type=int, default=100)
    kills_parser.add_argument("--prompt", type=int, default=160, help="tokens")
    kills_parser.add_argument("--tokens", type=int, default=80, help="that a trial makes")
    history_parser = commands.add_parser("history")
    history_parser.add_argument("--prompts", type=int, nargs="+", default=[50, 200, 800, 2000])
    history_parser.add_argument("--rounds", type=int, default=6, help="kills for each prompt")
    goodput_parser = commands.add_parser("goodput")
    goodput_parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 1e-3, 1e-2])
    goodput_parser.add_argument("--tokens", type=int, default=128, help="of one generation")
    goodput_parser.add_argument(
        "--generations", type=int, default=8, help="at least; four times as many where few die"
    )
    rolling_parser = commands.add_parser("rolling")
    rolling_parser.add_argument("--tokens", type=int, default=1000, help="of the stream")
    for command in (kills_parser, history_parser, goodput_parser, rolling_parser):
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    return parser.parse_args()


async def kills(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Carry seeded trials out."""
    async with swarm_and_client(arguments.dtype) as (swarm, client):
        return await run_kills(
            swarm,
            client,
            seed=arguments.seed,
            num_kills=arguments.kills,
            prompt_tokens=arguments.prompt,
            num_tokens=arguments.tokens,
        )


async def history(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Measure gaps after histories of several lengths."""
    async with swarm_and_client(arguments.dtype) as (swarm, client):
        return await measure_history(
            swarm, client, lengths=arguments.prompts, num_rounds=arguments.rounds
        )


async def goodput(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Measure tokens per second under random deaths, with recovery and without."""
    async with (
        swarm_and_client(arguments.dtype) as (swarm, client),
        open_client(swarm, arguments.dtype, RoutingSettings(max_history_bytes=0)) as forgetful,
    ):
        rates = {
            f"{rate:g}": {
                name: await measure_goodput(
                    swarm,
                    one,
                    rate=rate,
                    seed=arguments.seed,
                    num_tokens=arguments.tokens,
                    num_generations=enough_generations(
                        arguments.generations, arguments.tokens, rate
                    ),
                )
                for name, one in (("recovers", client), ("starts over", forgetful))
            }
            for rate in arguments.rates
        }
    return {"num_tokens": arguments.tokens, "deaths_per_step": rates}


async def rolling(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Restart all servers during one stream."""
    async with swarm_and_client(arguments.dtype) as (swarm, client):
        return await measure_rolling(swarm, client, num_tokens=arguments.tokens)


def enough_generations(least: int, num_tokens: int, rate: float) -> int:
    """Return how many generations to make: more when servers die seldom, but do die."""
    if rate == 0:
        return least
    return min(max(least, ceil(_WANTED_DEATHS / (rate * num_tokens))), 4 * least)


@asynccontextmanager
async def swarm_and_client(dtype: str) -> AsyncIterator[tuple[ChurnSwarm, ChurnClient]]:
    """Run the swarm, and a client with the usual settings."""
    with ChurnSwarm(DEMO_MODEL, SPANS, dtype=dtype) as swarm:
        async with open_client(swarm, dtype) as client:
            yield swarm, client


def open_client(
    swarm: ChurnSwarm, dtype: str, settings: RoutingSettings | None = None
) -> AbstractAsyncContextManager[ChurnClient]:
    """Return a client of a swarm."""
    return churn_client(DEMO_MODEL, swarm.maddr, dtype=getattr(torch, dtype), settings=settings)


if __name__ == "__main__":
    main()
