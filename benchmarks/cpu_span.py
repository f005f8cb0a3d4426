"""How fast does a CPU put steps through a server's span, and where do the milliseconds go?

Half of a small Llama with random bfloat16 weights, loaded and run as a server does, one thread, no
transport. Steps are of decodes, of prompts side by side, and of one long prompt.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.random_llama import LlamaShape, save_random_llama
from benchmarks.report import print_report
from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.batch import RaggedBatch, SpanRunner
from swarm_server.engine.segments import Segment
from swarm_server.loading import load_span, open_model
from swarm_server.serving_engine import prepare_span
from swarm_server.settings import ServerSettings

BLOCKS: Final = BlockRange(0, 8)
PAGE_SIZE: Final = 64

STEPS: Final = {
    "decode_1": (1, 1, 64),
    "decode_16": (16, 1, 64),
    "decode_32": (32, 1, 64),
    "prompts_1": (1, 32, 0),
    "prompts_2": (2, 32, 0),
    "prompts_4": (4, 32, 0),
    "prompts_8": (8, 32, 0),
    "prompts_16": (16, 32, 0),
    "prefill_512": (1, 512, 0),
}
"""Sequences, tokens of each in the step, and tokens before them."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--profile", action="store_true", help="tables of operations, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shape = LlamaShape()
    runner = random_runner(shape, getattr(torch, arguments.dtype))
    steps = {name: step_of(shape, *STEPS[name]) for name in arguments.steps}
    times_ms: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(1 + arguments.rounds):
        for name, step in steps.items():
            started_at = time.perf_counter()
            runner.run(BLOCKS, step)
            times_ms[name].append(1000 * (time.perf_counter() - started_at))
    results = {f"{name}_ms": round(statistics.median(t[1:]), 2) for name, t in times_ms.items()}
    if arguments.profile:
        for name, step in steps.items():
            with profile(activities=[ProfilerActivity.CPU]) as watched:
                runner.run(BLOCKS, step)
            print(name)
            print(watched.key_averages().table(sort_by="self_cpu_time_total", row_limit=14))
    print_report("cpu_span", {"shape": asdict(shape), "dtype": arguments.dtype, **results})


def random_runner(shape: LlamaShape, dtype: torch.dtype) -> SpanRunner:
    """Return what runs the blocks of a model with random weights."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "bench"
        save_random_llama(path, shape, torch.bfloat16)
        span = load_span(open_model(str(path)), BLOCKS, dtype=dtype)
        settings = ServerSettings(model=str(path), kv_tokens=64 * PAGE_SIZE, page_size=PAGE_SIZE)
        return prepare_span(span, settings).paged.runner


def step_of(shape: LlamaShape, num_sequences: int, num_tokens: int, position: int) -> RaggedBatch:
    """Return a step of sequences that have so many tokens before it, in pages of their own."""
    num_pages = -(-(position + num_tokens) // PAGE_SIZE)
    segments = [
        Segment(
            index * num_tokens,
            (index + 1) * num_tokens,
            position,
            [list(range(index * num_pages, (index + 1) * num_pages))],
        )
        for index in range(num_sequences)
    ]
    return RaggedBatch(torch.randn(num_sequences * num_tokens, shape.hidden_size), segments)


if __name__ == "__main__":
    main()
