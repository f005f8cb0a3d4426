"""Where the tokens of a ragged batch belong."""

from collections.abc import Sequence
from typing import NamedTuple


class Segment(NamedTuple):
    """Tokens [start, end) of a batch: consecutive tokens of one sequence, from `position` on.

    `tables` are the sequence's page tables, one for each layout group, with room for these tokens.
    A sequence may have several segments in a batch, in the order of their positions. A tuple,
    because a batch has many and each has to be cheap.
    """

    start: int
    end: int
    position: int
    tables: Sequence[Sequence[int]]

    @property
    def num_tokens(self) -> int:
        """How many tokens it has."""
        return self.end - self.start

    @property
    def length(self) -> int:
        """Tokens of its sequence up to its end."""
        return self.position + self.end - self.start
