"""How a batch is cut, so that servers get requests of a bearable size. Pure."""

from collections.abc import Iterator
from typing import Final

MAX_TOKENS: Final = 1024
"""Of one request, over its rows; a longer row goes alone. Source: PETALS_PROTOCOL §8."""


def cut_into_sub_batches(batch_size: int, num_tokens: int) -> Iterator[slice]:
    """Yield slices of the batch axis, in order, that together are all of it.

    Args:
        batch_size: rows.
        num_tokens: of each row, >= 1.
    """
    num_rows = max(1, MAX_TOKENS // num_tokens)
    for start in range(0, batch_size, num_rows):
        yield slice(start, min(batch_size, start + num_rows))
