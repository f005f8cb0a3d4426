"""How fast are sessions of a Llama-8B-shaped model in two servers on one GPU, over the wire?

Random bfloat16 weights, blocks 0:16 and 16:32, two processes and a client in a third. A session
first sends 1,000 tokens, then one after the other, each as soon as the one before is back; tokens
are hidden states, so embeddings and the head, which are the client's, do not count. Then prompts of
32 tokens, one and sixteen at once, until their outputs are there. Beside it are
transformers' own layers, all 32 in one process, run eagerly.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Final

import torch
import uvloop
from torch import Tensor

from benchmarks.gpu_transformers import LLAMA_8B, measure_transformers
from benchmarks.random_llama import LlamaShape, save_random_llama
from benchmarks.report import print_report
from swarm_client import InferenceSession, RemoteModel, SwarmConnection
from swarm_client.models import read_facts
from swarm_client.session.timings import StepTimings
from swarm_client.settings import RoutingSettings
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.hivemind import HivemindNode, NodeSettings
from tests.harness.programs import Program

TINY: Final = LlamaShape(
    hidden_size=256, intermediate_size=352, num_blocks=4, num_heads=4, num_kv_heads=2
)
"""To try the script out on a CPU."""

START_S: Final = 180.0

SESSIONS: Final = ((1, 1), (16, 1), (16, 4), (64, 1), (64, 4), (64, 8))
"""Numbers of sessions at once, and of the processes that hold them."""

STAY_AWAKE_S: Final = 0.01
"""Of a lone session's client, once more."""

PROMPT_TOKENS: Final = 32
NUM_PROMPTS: Final = 16
ROUNDS: Final = 9

_all_ready: Barrier


@dataclass(frozen=True, slots=True)
class Load:
    """Sessions at once, shared out among clients, each of which is a process.

    For `stay_awake_s` see `RoutingSettings`.
    """

    num_sessions: int
    num_clients: int
    context: int
    num_tokens: int
    stay_awake_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ClientTimes:
    """What one client has seen; readings of the clock that all processes share."""

    started_at: float
    prefilled_at: float
    ended_at: float
    times_ms: list[float]
    last_step: StepTimings


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=64, help="most at once")
    parser.add_argument("--context", type=int, default=1000, help="tokens before the first step")
    parser.add_argument("--tokens", type=int, default=200, help="steps of each session")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU instead")
    arguments = parser.parse_args()
    shape, device = (TINY, "cpu") if arguments.tiny else (LLAMA_8B, "cuda")
    results: dict[str, object] = {"shape": asdict(shape), "context": arguments.context}
    if device == "cuda":
        results["gpu"] = torch.cuda.get_device_name()
        steps = [(num_rows, arguments.context) for num_rows in (1, 16, 64)]
        results.update(measure_transformers(shape, steps))
        torch.cuda.empty_cache()
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "bench"
        with torch.device(device):
            save_random_llama(model, shape)
        torch.cuda.empty_cache()
        with two_servers(model, shape, device, arguments.sessions) as maddr:
            results["swarm"] = [
                measure_swarm(model, maddr, Load(*counts, arguments.context, arguments.tokens))
                for counts in SESSIONS
                if counts[0] <= arguments.sessions
            ]
            awake = Load(1, 1, arguments.context, arguments.tokens, STAY_AWAKE_S)
            results["swarm_with_client_awake"] = measure_swarm(model, maddr, awake)
            results["first_outputs"] = measure_prompts(model, maddr)
    print_report("gpu_swarm", results)


@contextmanager
def two_servers(model: Path, shape: LlamaShape, device: str, num_sessions: int) -> Iterator[str]:
    """Run two servers, each with half of the blocks; yields an address of their swarm."""
    middle = shape.num_blocks // 2
    options = (
        *("--device", device, "--dtype", "bfloat16", "--threads", "1"),
        *("--kv-tokens", str(2048 * num_sessions)),
    )
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


def measure_swarm(model: Path, maddr: str, load: Load) -> dict[str, object]:
    """Return what sessions at once took, shared out among clients; milliseconds."""
    spawning = multiprocessing.get_context("spawn")
    barrier = spawning.Barrier(load.num_clients)
    with ProcessPoolExecutor(load.num_clients, spawning, _take_barrier, (barrier,)) as clients:
        running = [clients.submit(run_client, model, maddr, load) for _ in range(load.num_clients)]
        parts = [client.result() for client in running]
    times_ms = sorted(time_ms for part in parts for time_ms in part.times_ms)
    took_s = max(part.ended_at for part in parts) - min(part.prefilled_at for part in parts)
    prefill_s = max(part.prefilled_at - part.started_at for part in parts)
    return {
        "sessions": load.num_sessions,
        "clients": load.num_clients,
        "tokens_per_s": round(len(times_ms) / took_s, 1),
        "step_median_ms": round(statistics.median(times_ms), 3),
        "step_p99_ms": round(times_ms[int(0.99 * len(times_ms))], 3),
        "prefill_tokens_per_s": round(load.num_sessions * load.context / prefill_s),
        "last_step_hops_ms": [
            {"took": hop.took_ms, "queue": hop.queue_ms, "compute": hop.compute_ms}
            for hop in parts[0].last_step.hops
        ],
    }


def measure_prompts(model: Path, maddr: str) -> dict[str, float]:
    """Return what short prompts take until their output is there, alone and many at once."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawning) as clients:
        return clients.submit(run_prompts, model, maddr).result()


def _take_barrier(barrier: Barrier) -> None:
    global _all_ready  # a barrier reaches a process only while it starts
    _all_ready = barrier


def run_client(model: Path, maddr: str, load: Load) -> ClientTimes:
    """Run the sessions of one client; all clients begin together. In a process of its own."""
    torch.set_num_threads(1)
    return uvloop.run(_run_client(model, maddr, load))


async def _run_client(model: Path, maddr: str, load: Load) -> ClientTimes:
    async with _remote_model(model, maddr, load.stay_awake_s) as remote:
        await run_sessions(remote, replace(load, num_sessions=load.num_clients, num_tokens=8))
        return await run_sessions(remote, load)


def run_prompts(model: Path, maddr: str) -> dict[str, float]:
    """Measure short prompts; in a process of its own."""
    torch.set_num_threads(1)
    return uvloop.run(_run_prompts(model, maddr))


async def _run_prompts(model: Path, maddr: str) -> dict[str, float]:
    async with _remote_model(model, maddr) as remote:
        await times_of_prompts(remote, NUM_PROMPTS)  # warms up
        lone_ms, together_ms = list[float](), list[float]()
        for _ in range(ROUNDS):
            lone_ms += await times_of_prompts(remote, 1)
            together_ms += await times_of_prompts(remote, NUM_PROMPTS)
    lone, together = statistics.median(lone_ms), statistics.median(together_ms)
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "lone_ms": round(lone, 2),
        f"{NUM_PROMPTS}_at_once_ms": round(together, 2),
        "ratio": round(together / lone, 2),
    }


async def times_of_prompts(remote: RemoteModel, num_prompts: int) -> list[float]:
    """Return how long each prompt of a new session takes, opening included, all at once."""
    inputs = torch.randn(num_prompts, 1, PROMPT_TOKENS, remote.facts.hidden_size).bfloat16()

    async def run(prompt: Tensor) -> float:
        started_at = time.perf_counter()
        session = await remote.open_session(max_length=2 * PROMPT_TOKENS)
        await session.step(prompt)
        took_ms = 1000 * (time.perf_counter() - started_at)
        await session.close()
        return took_ms

    return await asyncio.gather(*map(run, inputs))


@asynccontextmanager
async def _remote_model(
    model: Path, maddr: str, stay_awake_s: float = 0.0
) -> AsyncIterator[RemoteModel]:
    node = await HivemindNode.start(NodeSettings(initial_peers=[maddr]))
    connection = SwarmConnection(node, RoutingSettings(stay_awake_s=stay_awake_s))
    try:
        yield await connection.watch(read_facts(Checkpoint.open(str(model))))
    finally:
        await connection.close()
        await node.close()


async def run_sessions(remote: RemoteModel, load: Load) -> ClientTimes:
    """Run one client's share of the sessions: all prompts, then all tokens."""
    inputs = torch.randn(1, load.context, remote.facts.hidden_size).bfloat16()
    sessions = [
        await remote.open_session(max_length=load.context + load.num_tokens)
        for _ in range(load.num_sessions // load.num_clients)
    ]
    await asyncio.to_thread(_all_ready.wait, START_S)
    started_at = time.perf_counter()
    await asyncio.gather(*(session.step(inputs) for session in sessions))
    await asyncio.to_thread(_all_ready.wait, START_S)
    prefilled_at = time.perf_counter()
    times_ms = await asyncio.gather(
        *(step_alone(session, inputs[:, :1], load.num_tokens) for session in sessions)
    )
    ended_at = time.perf_counter()
    last_step = sessions[0].last_step
    for session in sessions:
        await session.close()
    ordered = [time_ms for times in times_ms for time_ms in times]
    return ClientTimes(started_at, prefilled_at, ended_at, ordered, last_step)


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
