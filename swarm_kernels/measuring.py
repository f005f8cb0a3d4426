"""How long ways to compute the same take here, found out briefly when a process starts."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Final

import torch
from torch import Tensor

NUM_TRIES: Final = 5

_DECODE_ROWS: Final = (1, 1, 1, 1, 1, 1, 1, 1, 16, 16)
"""Steps of one session, and of some together."""


def best_times_s(
    ways: Mapping[str, Callable[[], None]], *, clock: Callable[[], float] = perf_counter
) -> dict[str, float]:
    """Return the seconds that each way takes at best, once it is warm.

    They take turns, so that what else starts on this machine disturbs all of them.
    """
    for run in ways.values():
        run()
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(NUM_TRIES):
        for name, run in ways.items():
            started_at = clock()
            run()
            best[name] = min(best[name], clock() - started_at)
    return best


def mixed_rows(
    multiply: Callable[[Tensor], Tensor],
    num_inputs: int,
    dtype: torch.dtype,
    *,
    num_chunk_rows: int | None = 64,
) -> Callable[[], None]:
    """Return what puts rows in different numbers through a product.

    Args:
        multiply: the product.
        num_inputs: of a row.
        dtype: of the rows.
        num_chunk_rows: of a part of a prompt, beside decode steps; None is without.
    """
    sizes = _DECODE_ROWS if num_chunk_rows is None else (*_DECODE_ROWS, num_chunk_rows)
    batches = [torch.ones(num_rows, num_inputs, dtype=dtype) for num_rows in sizes]

    @torch.inference_mode()
    def run() -> None:
        for rows in batches:
            multiply(rows)

    return run
