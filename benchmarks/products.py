"""How fast are products with bfloat16 weights here, against oneDNN's in bfloat16 and float32?

Products of one thread with weights that come from memory: as many copies as are larger than a
cache are multiplied in turns. Sizes are those of a small Llama's and an 8B Llama's layers.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from benchmarks.report import print_report
from swarm_kernels import PackedWeight
from swarm_kernels.bfloat16_product import (
    InterleavedWeight,
    load_amx_product,
    load_vector_product,
    load_vnni_product,
)
from swarm_kernels.tiled_weight import TiledWeight

_MEMORY_BYTES = 300_000_000
_NUM_TRIES = 5


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    shapes = ["2816x1024", "14336x4096", "4096x14336"]
    parser.add_argument("--shapes", nargs="+", default=shapes, help="outputs x inputs")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {shape: measure_shape(shape, arguments.rows) for shape in arguments.shapes}
    print_report("products", results)


@torch.inference_mode()
def measure_shape(shape: str, row_counts: Sequence[int]) -> dict[str, dict[str, float]]:
    """Return milliseconds by way and number of rows, and what ours make of the machine."""
    num_outputs, num_inputs = map(int, shape.split("x"))
    weight = torch.randn(num_outputs, num_inputs).bfloat16()
    num_copies = max(2, _MEMORY_BYTES // weight.nbytes)
    ways: dict[str, Callable[[], PackedWeight]] = {
        "onednn_bfloat16": lambda: TiledWeight(weight, None),
        "onednn_float32": lambda: TiledWeight(weight.float(), None),
    }
    own = {
        "vectors": load_vector_product(),
        "vnni": load_vnni_product(),
        "amx": load_amx_product(),
    }
    for name, product in own.items():
        if product is not None:
            ways[name] = partial(InterleavedWeight, product, weight, None)
    results: dict[str, dict[str, float]] = {}
    for name, pack in ways.items():
        copies = [pack() for _ in range(num_copies)]
        dtype = torch.float32 if name == "onednn_float32" else torch.bfloat16
        for num_rows in row_counts:
            took_s = _measure(copies, torch.randn(num_rows, num_inputs).to(dtype))
            figures = results.setdefault(f"{num_rows}_rows", {})
            figures[f"{name}_ms"] = round(1e3 * took_s, 3)
            if name in own:
                figures[f"{name}_gb_per_s"] = round(weight.nbytes / took_s / 1e9, 1)
                num_operations = 2 * num_rows * weight.numel()
                figures[f"{name}_gflop_per_s"] = round(num_operations / took_s / 1e9)
    return results


def _measure(copies: Sequence[PackedWeight], rows: Tensor) -> float:
    """Return the seconds of one product, in the median of some tries."""
    tries = []
    for _ in range(_NUM_TRIES + 1):  # the first one gets warm
        started_at = perf_counter()
        for copy in copies:
            copy.multiply(rows)
        tries.append((perf_counter() - started_at) / len(copies))
    return sorted(tries[1:])[_NUM_TRIES // 2]


if __name__ == "__main__":
    main()
