"""The tokens of one row as penalties need them: each once, with its number of occurrences."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_FIRST_CAPACITY: Final = 64


class TokenHistory:
    """Tokens of a list that only grows; each is looked at once, so a step costs what it adds.

    Args:
        token_ids: prompt and output so far; read by `update`.
        num_prompt: tokens in front of the output.
        skips_prompt: whether only the output matters.
    """

    def __init__(self, token_ids: Sequence[int], num_prompt: int, *, skips_prompt: bool) -> None:
        self._token_ids = token_ids
        self._num_prompt = num_prompt
        self._num_seen = num_prompt if skips_prompt else 0
        self._index_of: dict[int, int] = {}
        self._ids: NDArray[np.int64] = np.empty(_FIRST_CAPACITY, np.int64)
        self._counts: NDArray[np.float32] = np.zeros(_FIRST_CAPACITY, np.float32)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Distinct tokens, `[num_distinct]`; a view, valid until the next `update`."""
        return self._ids[: len(self._index_of)]

    @property
    def counts(self) -> NDArray[np.float32]:
        """How often each of `ids` is in the output; 0 if only in the prompt. A view, too."""
        return self._counts[: len(self._index_of)]

    def update(self) -> None:
        """Take in the tokens that have come since the last call."""
        if self._num_seen < self._num_prompt:
            for token_id in self._token_ids[self._num_seen : self._num_prompt]:
                self._index(token_id)
            self._num_seen = self._num_prompt
        for token_id in self._token_ids[self._num_seen :]:
            index = self._index(token_id)  # may replace the arrays
            self._counts[index] += 1
        self._num_seen = len(self._token_ids)

    def _index(self, token_id: int) -> int:
        index = self._index_of.setdefault(token_id, len(self._index_of))
        if index == len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[index] = token_id
        return index
