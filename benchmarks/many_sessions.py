"""What do many sessions at once cost, against one plain transformers stream?

The same model, one thread per process. In turns: `transformers.generate` in this process, then
1 to 32 chats at once through the gateway's WebSocket in front of two servers, then threads that
call `generate()` of the library. Then what each server holds beyond its weights and KV pages.
Servers compute in what they choose by themselves, unless told otherwise; that depends on the
processor. transformers computes in the checkpoint's dtype.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any  # facts of a report

import torch
from transformers import LlamaForCausalLM

from benchmarks.chat_clients import Chat, chat_at_once, tokens_per_s, whole_tokens_per_s
from benchmarks.local_stream import measure_local_stream
from benchmarks.random_llama import LlamaShape, save_random_llama
from benchmarks.report import print_report
from benchmarks.swarm_processes import RunningSwarm, swarm_processes
from swarm_client import DistributedLlamaForCausalLM
from swarm_protocol.checkpoint import choose_dtype
from tests.harness.programs import Program


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of one chat")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chats", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--threads", type=int, default=16, help="that call generate() at once")
    dtypes = ["float32", "bfloat16"]
    parser.add_argument("--dtype", default="bfloat16", choices=dtypes, help="of the checkpoint")
    parser.add_argument(
        "--swarm-dtype", default="auto", choices=["auto", *dtypes], help="of gateway and servers"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shape = LlamaShape()
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "bench"
        save_random_llama(model, shape, getattr(torch, arguments.dtype))
        results = measure(model, shape, arguments)
    print_report("many_sessions", {"shape": asdict(shape), "dtype": arguments.dtype, **results})


def measure(model: Path, shape: LlamaShape, arguments: argparse.Namespace) -> dict[str, object]:
    """Measure all sides in turns; figures are medians over the rounds."""
    middle = shape.num_blocks // 2
    spans = [f"0:{middle}", f"{middle}:{shape.num_blocks}"]
    whole = LlamaForCausalLM.from_pretrained(model, dtype=getattr(torch, arguments.dtype)).eval()
    local: list[float] = []
    chats: dict[int, list[list[Chat]]] = {number: [] for number in arguments.chats}
    threads: list[float] = []
    with swarm_processes(model, spans, dtype=arguments.swarm_dtype) as swarm:
        chat_at_once(swarm.port, max(arguments.chats), 4)  # warms up
        for _ in range(arguments.rounds):
            local.append(measure_local_stream(whole, arguments.tokens))
            for number in arguments.chats:
                chats[number].append(chat_at_once(swarm.port, number, arguments.tokens))
            threads.append(measure_library(model, swarm, arguments))
        servers = describe_servers(swarm)
    for facts, server in zip(servers, swarm.servers, strict=True):  # ended: they have said it
        facts["dtype"] = _dtype_of(server, arguments)
        add_own_memory(facts, server, shape, getattr(torch, facts["dtype"]).itemsize)
    stream = statistics.median(local)
    library = statistics.median(threads)
    return {
        "local_tokens_per_s": round(stream, 2),
        "chats": {number: _describe(rounds, stream) for number, rounds in chats.items()},
        "first_token_of_16_at_once_vs_lone": _first_token_ratio(chats),
        "library": {
            "num_threads": arguments.threads,
            "tokens_per_s": round(library, 1),
            "ratio": round(library / stream, 2),
        },
        "servers": servers,
    }


def measure_library(model: Path, swarm: RunningSwarm, arguments: argparse.Namespace) -> float:
    """Return tokens per second of all threads together; loading does not count."""
    remote = DistributedLlamaForCausalLM.from_pretrained(
        str(model), initial_peers=[swarm.maddr], torch_dtype=arguments.swarm_dtype
    )
    barrier = threading.Barrier(arguments.threads + 1)

    def generate(index: int) -> None:
        torch.set_num_threads(1)
        prompt = torch.arange(100 * index, 100 * index + 32).unsqueeze(0)
        remote.generate(prompt, max_new_tokens=4)  # warms up
        barrier.wait()
        remote.generate(prompt, max_new_tokens=arguments.tokens)
        barrier.wait()

    workers = [threading.Thread(target=generate, args=(i,)) for i in range(arguments.threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    started_at = time.perf_counter()
    barrier.wait()
    took_s = time.perf_counter() - started_at
    for worker in workers:
        worker.join()
    remote.close()
    num_tokens: int = arguments.threads * arguments.tokens
    return num_tokens / took_s


def _dtype_of(server: Program, arguments: argparse.Namespace) -> str:
    """Return what a server computes in: told, measured, or else what suits the processor."""
    if arguments.swarm_dtype != "auto":
        return str(arguments.swarm_dtype)
    measured = [json.loads(line)["dtype"] for line in server.lines if "cpu_dtype_chosen" in line]
    if measured:
        return str(measured[0])
    return str(choose_dtype("auto", arguments.dtype, "cpu")).removeprefix("torch.")


def describe_servers(swarm: RunningSwarm) -> list[dict[str, Any]]:
    """Return each server's processes and resident memory, in MiB, after all the work."""
    facts: list[dict[str, Any]] = []
    for server in swarm.servers:
        family = server.family()
        memory = {f"{p.name()}_{p.pid}": round(p.memory_info().rss / 2**20, 1) for p in family}
        facts.append({"num_processes": len(family), "resident_mib": memory})
    return facts


def add_own_memory(
    facts: dict[str, Any], server: Program, shape: LlamaShape, itemsize: int
) -> None:
    """Add what a server and its daemon held beyond the weights of its blocks and its KV pages."""
    drained = next(line for line in server.lines if "server_drained" in line)
    kv_mib = json.loads(drained)["kv_mib_touched"]
    hidden, inner = shape.hidden_size, shape.intermediate_size
    kv_size = hidden * shape.num_kv_heads // shape.num_heads
    block = 2 * hidden * (hidden + kv_size) + 3 * hidden * inner + 2 * hidden
    weights_mib = block * shape.num_blocks // 2 * itemsize / 2**20
    resident_mib = sum(facts["resident_mib"].values())
    facts["weights_mib"], facts["kv_mib"] = round(weights_mib, 1), kv_mib
    facts["beyond_mib"] = round(resident_mib - weights_mib - kv_mib, 1)


def _describe(rounds: list[list[Chat]], stream: float) -> dict[str, float]:
    together = statistics.median(tokens_per_s(chats) for chats in rounds)
    whole = statistics.median(whole_tokens_per_s(chats) for chats in rounds)
    first = statistics.median(chat.first_token_s for chats in rounds for chat in chats)
    return {
        "tokens_per_s": round(together, 1),
        "ratio": round(together / stream, 2),
        "ratio_with_prefill": round(whole / stream, 2),
        "ms_per_row": round(1000 / together, 2),
        "first_token_p50_s": round(first, 3),
    }


def _first_token_ratio(chats: dict[int, list[list[Chat]]]) -> float | None:
    if 1 not in chats or 16 not in chats:
        return None
    lone, many = (
        statistics.median(chat.first_token_s for round_ in chats[number] for chat in round_)
        for number in (1, 16)
    )
    return round(many / lone, 2)


if __name__ == "__main__":
    main()
