"""Does every generation survive the death of its servers, and what does its reader see?

`kills`: servers of 4 stages x 2 replicas are killed in seeded moments; each trial is compared with
an undisturbed run of the same prompt and seed.
"""

import argparse
import asyncio
import statistics
import sys
from collections.abc import Sequence

import torch

from benchmarks.report import print_report
from tests.harness.churn_client import churn_client
from tests.harness.churn_swarm import ChurnSwarm
from tests.harness.churn_trials import Outcome, run_trial
from tests.harness.killing import plan_trials
from tests.harness.programs import DEMO_MODEL

SPANS = ("0:2", "2:4", "4:6", "6:8")


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    kills = commands.add_parser("kills")
    kills.add_argument("--kills", type=int, default=100)
    kills.add_argument("--seed", type=int, default=0)
    kills.add_argument("--prompt", type=int, default=160, help="tokens")
    kills.add_argument("--tokens", type=int, default=80, help="that a trial makes")
    kills.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    outcomes = asyncio.run(run_kills(arguments))
    print_report("churn_kills", describe_kills(outcomes))


async def run_kills(arguments: argparse.Namespace) -> list[Outcome]:
    """Carry all trials out on one swarm."""
    outcomes = []
    trials = plan_trials(
        arguments.seed,
        num_kills=arguments.kills,
        num_stages=len(SPANS),
        num_tokens=arguments.tokens,
    )
    dtype = getattr(torch, arguments.dtype)
    with ChurnSwarm(DEMO_MODEL, SPANS, dtype=arguments.dtype) as swarm:
        async with churn_client(DEMO_MODEL, swarm.maddr, dtype=dtype) as client:
            for trial in trials:
                outcome = await run_trial(
                    swarm,
                    client,
                    trial,
                    prompt_tokens=arguments.prompt,
                    num_tokens=arguments.tokens,
                )
                outcomes.append(outcome)
                print(outcome, file=sys.stderr)
                await asyncio.to_thread(swarm.restore)
                await client.remote.refresh()
    return outcomes


def describe_kills(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Return counts and gaps."""
    return {
        "trials": len(outcomes),
        "kills": sum(outcome.num_struck for outcome in outcomes),
        "recovered": sum(outcome.is_recovered for outcome in outcomes),
        "changed_tokens": sum(outcome.num_changed for outcome in outcomes),
        "gap_p50_s": round(statistics.median(outcome.gap_s for outcome in outcomes), 3),
    }


if __name__ == "__main__":
    main()
