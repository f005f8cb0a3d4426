"""What stands beside the GPU benchmarks: decode steps of transformers' own layers, run eagerly."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import torch
from transformers import DynamicCache, LlamaConfig, LlamaModel

from benchmarks.random_llama import LlamaShape

LLAMA_8B: Final = LlamaShape(
    hidden_size=4096,
    intermediate_size=14336,
    num_blocks=32,
    num_heads=32,
    num_kv_heads=8,
    vocab_size=1024,  # the blocks are what is measured
    max_positions=8192,
)

_CHUNK_TOKENS: Final = 125


@torch.inference_mode()
def measure_transformers(shape: LlamaShape, steps: Sequence[tuple[int, int]]) -> dict[str, object]:
    """Return milliseconds of steps, each of some rows with some tokens before them; medians."""
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_blocks,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
    )
    with torch.device("cuda"):
        model = LlamaModel(config).to(torch.bfloat16).eval()
        return {
            f"transformers_{num_rows}_of_{num_tokens}_ms": _step_ms(model, num_rows, num_tokens)
            for num_rows, num_tokens in steps
        }


def _step_ms(model: LlamaModel, num_rows: int, num_tokens: int) -> float:
    cache = DynamicCache(config=model.config)
    shape = (num_rows, num_tokens, model.config.hidden_size)
    prompt = torch.randn(shape, dtype=torch.bfloat16)
    for rows in torch.split(prompt, _CHUNK_TOKENS, dim=1):
        model(inputs_embeds=rows, past_key_values=cache, use_cache=True)
    token = prompt[:, :1]
    return median_ms(
        lambda: model(inputs_embeds=token, past_key_values=cache, use_cache=True), num_runs=10
    )


def median_ms(step: Callable[[], object], num_runs: int = 30) -> float:
    """Return the time of a call, after two that warm up, up to the end of the GPU's work."""
    return round(statistics.median(list(_times_ms(step, num_runs + 2))[2:]), 3)


def _times_ms(step: Callable[[], object], num_runs: int) -> Iterator[float]:
    for _ in range(num_runs):
        torch.cuda.synchronize()
        started_at = time.perf_counter()
        step()
        torch.cuda.synchronize()
        yield 1000 * (time.perf_counter() - started_at)
