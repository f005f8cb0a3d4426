"""How a batch is cut: small enough for servers to bear, and so that they work at the same time.

A batch in one piece would keep only one server of its route busy; in a few pieces, the first
server runs the second piece while the second server runs the first. Pure.
"""

from collections.abc import Iterator
from typing import Final

MAX_TOKENS: Final = 1024
"""Of one request, over its rows; a longer row goes alone. Source: PETALS_PROTOCOL §8."""

MIN_TOKENS: Final = 256
"""Cutting finer costs more in matrix products than it gains."""

_NUM_PIECES: Final = 4


def cut_into_sub_batches(batch_size: int, num_tokens: int) -> Iterator[slice]:
    """Yield slices of the batch axis, in order, that together are all of it.

    Args:
        batch_size: rows.
        num_tokens: of each row, >= 1.
    """
    wanted = max(-(-batch_size // _NUM_PIECES), MIN_TOKENS // num_tokens)
    num_rows = max(1, min(wanted, MAX_TOKENS // num_tokens))
    for start in range(0, batch_size, num_rows):
        yield slice(start, min(batch_size, start + num_rows))
