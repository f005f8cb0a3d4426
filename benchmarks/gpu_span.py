"""How fast does a GPU put rows through a span, and where do the milliseconds go?

Random bfloat16 blocks in the shape of Llama 3 8B, all on one GPU, no transport. A step is timed as
the engine calls it, copies from and to the CPU included; beside it are the bare matrix products
in a CUDA graph, and transformers' own layers run eagerly.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_transformers import LLAMA_8B, measure_transformers, median_ms
from benchmarks.random_llama import LlamaShape
from benchmarks.report import print_report
from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.batch import Begun, RaggedBatch
from swarm_server.engine.cuda.attention import Heads
from swarm_server.engine.cuda.fused_block import FusedBlock
from swarm_server.engine.cuda.fused_span import FusedSpan
from swarm_server.engine.cuda.graph_runner import GraphRunner
from swarm_server.engine.segments import Segment

GPU: Final = torch.device("cuda")
PAGE_SIZE: Final = 64
STEPS: Final = ((1, 1000), (1, 8000), (16, 1000), (64, 1000), (64, 4000))
"""Rows of a decode step, and the tokens that each has before."""
LARGEST: Final = STEPS[-1]
"""Keys and values of transformers, which it copies in every step, have no room for this one."""
HEAD_DIM: Final = 128


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="where a step's time goes, too")
    arguments = parser.parse_args()
    shape = LLAMA_8B
    with torch.inference_mode():
        results = measure(shape, with_profile=arguments.profile)
    torch.cuda.empty_cache()
    results.update(measure_transformers(shape, [step for step in STEPS if step != LARGEST]))
    print_report(
        "gpu_span", {"gpu": torch.cuda.get_device_name(), "shape": asdict(shape), **results}
    )


def measure(shape: LlamaShape, *, with_profile: bool) -> dict[str, object]:
    """Measure decode steps, chunks and both together; milliseconds, medians."""
    num_pages = max(rows * (tokens // PAGE_SIZE + 2) for rows, tokens in STEPS)
    span = random_span(shape, num_pages)
    started_at = time.perf_counter()
    runner = GraphRunner(span, NoRunner())
    runner.warm_up()
    results: dict[str, object] = {"warm_up_s": round(time.perf_counter() - started_at, 2)}
    for num_rows, num_tokens in STEPS:
        step = Step(shape, [(num_tokens, 1)] * num_rows, runner)
        name = f"decode_{num_rows}_of_{num_tokens}"
        results[f"{name}_ms"] = median_ms(step.run)
        results[f"{name}_products_ms"] = products_ms(span, num_rows)
        if with_profile:
            results[f"{name}_profile"] = kernels(step.run)
    for num_tokens in (128, 512, 2048):
        chunk = Step(shape, [(0, num_tokens)], runner)
        results[f"prefill_{num_tokens}_ms"] = median_ms(chunk.run, 5)
    mixed = Step(shape, [(1000, 1)] * 32 + [(1000, 256)], runner)
    results["decode_32_with_chunk_256_ms"] = median_ms(mixed.run, 5)
    return results


class NoRunner:
    """Stands where batches go that the span covers not; none does here."""

    def prepare(self, blocks: BlockRange, batch: RaggedBatch) -> Callable[[], Begun[Tensor]]:
        """Fail."""
        raise NotImplementedError

    def run(self, blocks: BlockRange, batch: RaggedBatch) -> Tensor:
        """Fail."""
        raise NotImplementedError


class Step:
    """A step of sequences that each have some tokens, and compute some."""

    def __init__(
        self, shape: LlamaShape, sequences: list[tuple[int, int]], runner: GraphRunner
    ) -> None:
        self._runner = runner
        self._blocks = BlockRange(0, shape.num_blocks)
        segments, row, page = [], 0, 0
        for position, num_rows in sequences:
            num_pages = -(-(position + num_rows) // PAGE_SIZE)
            table = range(page, page + num_pages)
            segments.append(Segment(row, row + num_rows, position, (list(table),)))
            row, page = row + num_rows, page + num_pages
        hidden = torch.randn(row, shape.hidden_size).bfloat16()
        self._batch = RaggedBatch(hidden, tuple(segments))

    def run(self) -> None:
        """Run it; the outputs are on the CPU then."""
        self._runner.run(self._blocks, self._batch)


def random_span(shape: LlamaShape, num_pages: int) -> FusedSpan:
    """Return blocks with random weights, and pages full of random keys and values."""
    pages = torch.randn(
        shape.num_blocks,
        num_pages,
        PAGE_SIZE,
        2 * shape.num_kv_heads,
        HEAD_DIM,
        device=GPU,
        dtype=torch.bfloat16,
    )
    exponents = torch.arange(0, HEAD_DIM, 2, device=GPU) / HEAD_DIM
    blocks = [random_block(shape) for _ in range(shape.num_blocks)]
    return FusedSpan(BlockRange(0, shape.num_blocks), blocks, list(pages), 10000.0**-exponents)


def random_block(shape: LlamaShape) -> FusedBlock:
    """Return a block with random weights."""
    heads = Heads(shape.num_heads, shape.num_kv_heads, HEAD_DIM, HEAD_DIM**-0.5)
    width = heads.num_heads * heads.head_dim
    kv_width = heads.num_kv_heads * heads.head_dim
    hidden, inner = shape.hidden_size, shape.intermediate_size

    def weight(*sizes: int) -> Tensor:
        return torch.randn(sizes, device=GPU, dtype=torch.bfloat16) * 0.02

    return FusedBlock(
        heads=heads,
        norm_eps=1e-5,
        attention_norm=torch.ones(hidden, device=GPU, dtype=torch.bfloat16),
        qkv=weight(width + 2 * kv_width, hidden),
        qkv_bias=None,
        out=weight(hidden, width),
        mlp_norm=torch.ones(hidden, device=GPU, dtype=torch.bfloat16),
        gate_up=weight(2 * inner, hidden),
        gate_up_bias=None,
        down=weight(hidden, inner),
    )


def products_ms(span: FusedSpan, num_rows: int) -> float:
    """Return the time of multiplying rows with all weights, and nothing else, as one graph."""
    weights = [
        weight
        for block in span.blocks
        for weight in (block.qkv, block.out, block.gate_up, block.down)
    ]
    rows = {
        width: torch.randn(num_rows, width, device=GPU, dtype=torch.bfloat16)
        for width in {weight.shape[1] for weight in weights}
    }

    def multiply() -> None:
        for weight in weights:
            linear(rows[weight.shape[1]], weight)

    multiply()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        multiply()
    return median_ms(graph.replay)


def kernels(step: Callable[[], None]) -> dict[str, float]:
    """Return the milliseconds of one step by kernel, the dearest first."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
    events = sorted(profiler.key_averages(), key=lambda event: -event.device_time_total)
    return {
        f"{event.key[:60]} x{event.count}": round(event.device_time_total / 1000, 3)
        for event in events[:14]
    }


if __name__ == "__main__":
    main()
