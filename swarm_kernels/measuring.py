"""How long ways to compute the same take here, found out briefly when a process starts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import thread_time
from typing import Final, Generic, TypeVar

import torch
from torch import Tensor

Name = TypeVar("Name", bound=str)

NUM_TRIES: Final = 5

_DECODE_ROWS: Final = (1, 1, 1, 1, 1, 1, 1, 1, 16, 16)
"""Steps of one session, and of some together."""


@dataclass(frozen=True, slots=True)
class Fastest(Generic[Name]):
    """The way that took the least, and what each took; `took_ms` is fit for a log."""

    name: Name
    took_ms: Mapping[str, float]


def fastest_of(
    ways: Mapping[Name, Callable[[], None]], *, clock: Callable[[], float] = thread_time
) -> Fastest[Name]:
    """Return the fastest way by `best_times_s`; of equal ones the first."""
    took_s = best_times_s(ways, clock=clock)
    return Fastest(min(took_s, key=took_s.__getitem__), for_log(took_s))


def for_log(took_s: Mapping[Name, float]) -> dict[str, float]:
    """Return seconds by name as milliseconds by `NAME_ms`."""
    return {f"{name}_ms": round(1e3 * value, 2) for name, value in took_s.items()}


def best_times_s(
    ways: Mapping[Name, Callable[[], None]], *, clock: Callable[[], float] = thread_time
) -> dict[Name, float]:
    """Return the seconds that each way takes at best, once it is warm.

    They take turns, so that what else starts on this machine disturbs all of them, and only what
    this thread computes counts: where others take its core away, the slower way may be luckier.
    It computes alone, for on a busy machine several threads mostly wait for the last of them.
    """
    best = dict.fromkeys(ways, float("inf"))
    with _one_thread():
        for run in ways.values():
            run()
        for _ in range(NUM_TRIES):
            for name, run in ways.items():
                started_at = clock()
                run()
                best[name] = min(best[name], clock() - started_at)
    return best


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let operations of this thread use no others."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


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
