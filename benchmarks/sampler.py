"""What does choosing the next tokens of a batch cost, by what its rows ask for?

One thread, which is what a replica has beside others; logits are random and rather flat. Penalties
count 2,000 tokens per row, masks allow every second token on average.
"""

import argparse
import random
import statistics
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

import torch
from torch import Tensor

from benchmarks.report import print_report
from swarm_client.generation.logprobs import token_logprobs
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.generation.sampler import sample_tokens
from swarm_client.generation.sampler_row import SamplerRow

_NUM_TOKENS: Final = 2000
_WISHES: Final[Mapping[str, dict[str, Any]]] = {
    "greedy": {},
    "temperature": {"do_sample": True, "temperature": 0.7},
    "top_p": {"do_sample": True, "temperature": 0.7, "top_p": 0.9},
    "top_k": {"do_sample": True, "top_k": 50},
    "penalties": {"repetition_penalty": 1.2, "frequency_penalty": 0.5},
    "bias": {"logit_bias": ((5, 3.0), (6, -100.0))},
    "all": {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2},
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--calls", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logits = 4 * torch.randn(arguments.rows, arguments.vocabulary)
    mask = torch.randint(-(2**31), 2**31, (-(-arguments.vocabulary // 32),)).to(torch.int32)
    with torch.inference_mode():
        results = {
            name: measure(logits, SamplingParameters(**wish), arguments.calls)
            for name, wish in _WISHES.items()
        }
        results["mask"] = measure(logits, SamplingParameters(), arguments.calls, mask)
        results["one_of_them_masked"] = measure(
            logits, SamplingParameters(), arguments.calls, mask, num_masked=1
        )
        results["logprobs_of_5"] = measure_logprobs(logits, arguments.calls)
    print_report("sampler", {"rows": arguments.rows, "ms": results})


def measure(
    logits: Tensor,
    wanted: SamplingParameters,
    num_calls: int,
    mask: Tensor | None = None,
    num_masked: int | None = None,
) -> float:
    """Return the median time of one call, in milliseconds."""
    num_rows, vocab_size = logits.shape
    token_ids = random.Random(0).sample(range(vocab_size), min(_NUM_TOKENS, vocab_size))
    rows = [
        SamplerRow(
            wanted,
            list(token_ids),
            random.Random(index),
            mask=mask if num_masked is None or index < num_masked else None,
        )
        for index in range(num_rows)
    ]
    took_ms = []
    for _ in range(num_calls):
        began_at = perf_counter()
        sample_tokens(logits, rows)
        took_ms.append((perf_counter() - began_at) * 1000)
    return round(statistics.median(took_ms), 3)


def measure_logprobs(logits: Tensor, num_calls: int) -> float:
    """Return the median time of one call, in milliseconds."""
    took_ms = []
    for _ in range(num_calls):
        began_at = perf_counter()
        token_logprobs(logits, [1] * len(logits), [5] * len(logits))
        took_ms.append((perf_counter() - began_at) * 1000)
    return round(statistics.median(took_ms), 3)


if __name__ == "__main__":
    main()
