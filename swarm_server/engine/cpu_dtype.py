"""Which dtype a CPU multiplies faster, found out briefly when a server starts."""

from collections.abc import Callable
from time import perf_counter
from typing import Final

import torch

from swarm_protocol.logs import get_logger
from swarm_server.engine.linear import make_linear

log = get_logger(__name__)

_NUM_INPUTS: Final = 1024
_NUM_OUTPUTS: Final = 2816
_NUM_CHUNK_ROWS: Final = 64
_NUM_DECODE_ROWS: Final = 8
_NUM_TRIES: Final = 3


def faster_cpu_dtype(*, clock: Callable[[], float] = perf_counter) -> torch.dtype:
    """Return bfloat16 or float32, for weights of 16 bits; takes a tenth of a second.

    Compared are a few single rows and a chunk through one layer of a small model, the best of
    three tries.
    """
    took_ms = {dtype: 1e3 * _measure(dtype, clock) for dtype in (torch.bfloat16, torch.float32)}
    chosen = min(took_ms, key=took_ms.__getitem__)
    log.info(
        "cpu_dtype_chosen",
        dtype=str(chosen).removeprefix("torch."),
        bfloat16_ms=round(took_ms[torch.bfloat16], 2),
        float32_ms=round(took_ms[torch.float32], 2),
    )
    return chosen


@torch.inference_mode()
def _measure(dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Return how many seconds the rows take at best."""
    layer = make_linear(torch.ones(_NUM_OUTPUTS, _NUM_INPUTS, dtype=dtype))
    chunk = torch.ones(_NUM_CHUNK_ROWS, _NUM_INPUTS, dtype=dtype)
    layer(chunk)
    layer(chunk[:1])
    tries = []
    for _ in range(_NUM_TRIES):
        started_at = clock()
        layer(chunk)
        for _ in range(_NUM_DECODE_ROWS):
            layer(chunk[:1])
        tries.append(clock() - started_at)
    return min(tries)
