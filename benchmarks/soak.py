"""Does a swarm keep its memory flat, and lose no page, over hundreds of thousands of steps?

Two servers and a client in one process, without a network; mixed sessions come and go until the
steps are done: prompts, decoding, going back, adapters, callers who leave in the middle.
"""

import argparse
import asyncio
import gc
import tempfile
import time
from pathlib import Path

import psutil
import torch

from benchmarks.report import print_report
from tests.harness.mixed_sessions import plan_session, run_plan
from tests.harness.tiny_models import save_tiny_llama
from tests.integration.adapters.adapted_swarm import adapted_swarm, save_two_adapters


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--sessions", type=int, default=32, help="at once")
    parser.add_argument("--samples", type=int, default=20, help="of the memory")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        results = asyncio.run(soak(Path(name), arguments))
    print_report("soak", results)


async def soak(directory: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the memory over the steps, and what is left when all sessions have ended."""
    model = save_tiny_llama(directory / "model")
    async with adapted_swarm(model, save_two_adapters(directory, model)) as swarm:
        num_steps, seed = 0, 0
        kv_tokens_free = [server.kv_tokens_free for server in swarm.servers]
        memory_mib: list[float] = []
        started_at = time.perf_counter()

        async def come_and_go() -> None:
            nonlocal num_steps, seed
            while num_steps < arguments.steps:
                seed += 1
                plan = plan_session(
                    seed, (None, "some", "all"), swarm.remotes[None].facts.vocab_size
                )
                tokens = await run_plan(plan, swarm.remotes[plan.adapter], swarm.parts)
                num_steps += len(tokens)
                if num_steps * arguments.samples >= (len(memory_mib) + 1) * arguments.steps:
                    gc.collect()
                    memory_mib.append(round(psutil.Process().memory_info().rss / 2**20, 1))

        await asyncio.gather(*(come_and_go() for _ in range(arguments.sessions)))
        took_s = time.perf_counter() - started_at
        return {
            "num_steps": num_steps,
            "num_sessions": seed,
            "took_s": round(took_s, 1),
            "resident_mib": memory_mib,
            "growth_of_second_half_mib": round(
                memory_mib[-1] - memory_mib[len(memory_mib) // 2], 1
            ),
            "sessions_left": [server.num_sessions for server in swarm.servers],
            "kv_tokens_lost": [
                before - server.kv_tokens_free
                for before, server in zip(kv_tokens_free, swarm.servers, strict=True)
            ],
        }


if __name__ == "__main__":
    main()
