"""How fast are sessions of a Llama-8B-shaped model in two servers on one GPU, over the wire?

Random bfloat16 weights, blocks 0:16 and 16:32, two processes and a client in a third. A session
first sends 1,000 tokens, then one after the other, each as soon as the one before is back; tokens
are hidden states, so embeddings and the head, which are the client's, do not count. Beside it are
transformers' own layers, all 32 in one process, run eagerly.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from benchmarks.gpu_transformers import LLAMA_8B, measure_transformers
from benchmarks.random_llama import LlamaShape, save_random_llama
from benchmarks.report import print_report
from swarm_client import InferenceSession, RemoteModel, SwarmConnection
from swarm_client.models import read_facts
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.hivemind import HivemindNode, NodeSettings
from tests.harness.programs import Program

TINY: Final = LlamaShape(
    hidden_size=256, intermediate_size=352, num_blocks=4, num_heads=4, num_kv_heads=2
)
"""To try the script out on a CPU."""

START_S: Final = 180.0


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--context", type=int, default=1000, help="tokens before the first step")
    parser.add_argument("--tokens", type=int, default=200, help="steps of each session")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU instead")
    arguments = parser.parse_args()
    shape, device = (TINY, "cpu") if arguments.tiny else (LLAMA_8B, "cuda")
    results: dict[str, object] = {"shape": asdict(shape), "context": arguments.context}
    if device == "cuda":
        results["gpu"] = torch.cuda.get_device_name()
        steps = [(num_rows, arguments.context) for num_rows in arguments.sessions]
        results.update(measure_transformers(shape, steps))
        torch.cuda.empty_cache()
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "bench"
        with torch.device(device):
            save_random_llama(model, shape)
        torch.cuda.empty_cache()
        with two_servers(model, shape, device, max(arguments.sessions)) as maddr:
            results["swarm"] = asyncio.run(measure_swarm(model, maddr, arguments))
    print_report("gpu_swarm", results)


@contextmanager
def two_servers(model: Path, shape: LlamaShape, device: str, num_sessions: int) -> Iterator[str]:
    """Run two servers, each with half of the blocks; yields an address of their swarm."""
    middle = shape.num_blocks // 2
    kv_tokens = str(2048 * num_sessions)
    options = ("--device", device, "--dtype", "bfloat16", "--kv-tokens", kv_tokens)
    with ExitStack() as stack:
        first = stack.enter_context(
            Program("serve", str(model), "--blocks", f"0:{middle}", "--new-swarm", *options)
        )
        ready = json.loads(first.wait_for('"ready": true', timeout_s=START_S))
        maddr: str = ready["maddrs"][0]
        second = stack.enter_context(
            Program(
                *("serve", str(model), "--blocks", f"{middle}:{shape.num_blocks}"),
                *("--initial-peers", maddr),
                *options,
            )
        )
        second.wait_for('"ready": true', timeout_s=START_S)
        yield maddr


async def measure_swarm(
    model: Path, maddr: str, arguments: argparse.Namespace
) -> list[dict[str, object]]:
    """Measure all numbers of sessions; the first of them once before, to warm up."""
    torch.set_num_threads(1)
    node = await HivemindNode.start(NodeSettings(initial_peers=[maddr]))
    connection = SwarmConnection(node)
    try:
        remote = await connection.watch(read_facts(Checkpoint.open(str(model))))
        await run_sessions(remote, 1, arguments.context, 8)
        return [
            await run_sessions(remote, count, arguments.context, arguments.tokens)
            for count in arguments.sessions
        ]
    finally:
        await connection.close()
        await node.close()


async def run_sessions(
    remote: RemoteModel, num_sessions: int, context: int, num_tokens: int
) -> dict[str, object]:
    """Return what sessions at once took; milliseconds."""
    inputs = torch.randn(1, context, remote.facts.hidden_size).bfloat16()
    sessions = [
        await remote.open_session(max_length=context + num_tokens) for _ in range(num_sessions)
    ]
    started_at = time.perf_counter()
    await asyncio.gather(*(session.step(inputs) for session in sessions))
    prefilled_at = time.perf_counter()
    times_ms = await asyncio.gather(
        *(step_alone(session, inputs[:, :1], num_tokens) for session in sessions)
    )
    took_s = time.perf_counter() - prefilled_at
    hops = sessions[0].last_step.hops
    for session in sessions:
        await session.close()
    ordered = sorted(time_ms for times in times_ms for time_ms in times)
    return {
        "sessions": num_sessions,
        "tokens_per_s": round(num_sessions * num_tokens / took_s, 1),
        "step_median_ms": round(statistics.median(ordered), 3),
        "step_p99_ms": round(ordered[int(0.99 * len(ordered))], 3),
        "prefill_tokens_per_s": round(num_sessions * context / (prefilled_at - started_at)),
        "last_step_hops_ms": [
            {"took": hop.took_ms, "queue": hop.queue_ms, "compute": hop.compute_ms} for hop in hops
        ],
    }


async def step_alone(session: InferenceSession, token: Tensor, num_tokens: int) -> list[float]:
    """Return what each step of one session took."""
    times_ms = []
    for _ in range(num_tokens):
        started_at = time.perf_counter()
        await session.step(token)
        times_ms.append(1000 * (time.perf_counter() - started_at))
    return times_ms


if __name__ == "__main__":
    main()
