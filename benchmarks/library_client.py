"""A client in a process of its own, for `benchmarks.library`: its start and its memory."""

import json
import sys
import time

import torch

from benchmarks.library import peak_memory_mib
from swarm_client import DistributedLlamaForCausalLM


def main(model: str, maddr: str, dtype: str) -> None:
    """Load, make a token, and print what it took."""
    before_mib = peak_memory_mib()
    started_at = time.perf_counter()
    remote = DistributedLlamaForCausalLM.from_pretrained(
        model, initial_peers=[maddr], torch_dtype=dtype
    )
    loaded_at = time.perf_counter()
    remote.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=1)
    first_at = time.perf_counter()
    parts = sum(p.numel() * p.element_size() for p in remote.parameters()) / 2**20
    remote.close()
    print(
        json.dumps(
            {
                "load_s": round(loaded_at - started_at, 3),
                "first_token_s": round(first_at - loaded_at, 3),
                "local_parts_mib": round(parts, 1),
                "memory_of_the_client_mib": round(peak_memory_mib() - before_mib, 1),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
