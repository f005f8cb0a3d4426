"""A client in a process of its own, for `benchmarks.library`: its start and its memory."""

import json
import sys
import time
from pathlib import Path

import torch

from swarm_client import DistributedLlamaForCausalLM


def main(model: str, maddr: str, dtype: str) -> None:
    """Load, make a token, and print what it took."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before_mib = memory_mib("VmRSS")
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
                "peak_memory_beyond_imports_mib": round(memory_mib("VmHWM") - before_mib, 1),
            }
        )
    )


def memory_mib(field: str) -> float:
    """Return a field of this process's memory: resident now (VmRSS) or at most (VmHWM), in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
