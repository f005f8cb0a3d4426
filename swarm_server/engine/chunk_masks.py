"""Where the tokens of a chunk may look, as masks for torch's attention."""

import torch
from torch import Tensor

from swarm_server.engine.block_context import Scoring
from swarm_server.engine.positions import PositionTables


class ChunkMasks:
    """Of `num_tokens` tokens of one sequence that begin at `position`. Lives for one batch.

    A mask is made when the first block asks for it, and serves all blocks that score alike.
    """

    def __init__(self, position: int, num_tokens: int, tables: PositionTables) -> None:
        self.position = position
        self.num_tokens = num_tokens
        self._tables = tables
        self._masks: dict[Scoring, Tensor | None] = {}

    @property
    def end(self) -> int:
        """The position after the chunk."""
        return self.position + self.num_tokens

    def first_key(self, window: int | None) -> int:
        """Return the first position that any token of the chunk may look at."""
        return 0 if window is None else max(0, self.position + 1 - window)

    def mask(self, scoring: Scoring) -> Tensor | None:
        """Return what goes with the scores of keys from `first_key` to the end of the chunk.

        Bool [num_tokens, num_keys], True where a token may look; with ALiBi what is added to the
        scores, [num_heads, num_tokens or 1, num_keys]. None stands for "everything" when the
        chunk is one token, and for "plainly causal" when it begins with the first key.
        """
        if scoring not in self._masks:
            self._masks[scoring] = self._make(scoring)
        return self._masks[scoring]

    def _make(self, scoring: Scoring) -> Tensor | None:
        visible = self._visible(scoring.window)
        if scoring.alibi is None:
            return visible
        first = self.first_key(scoring.window)
        biases = self._tables.alibi(scoring.alibi, self.end)[:, :, first:]
        if self.num_tokens == 1:
            return biases
        visible = self._causal(first) if visible is None else visible
        return biases.masked_fill(~visible, -torch.inf)

    def _visible(self, window: int | None) -> Tensor | None:
        first = self.first_key(window)
        is_narrow = window is not None and self.end - first > window
        if self.num_tokens == 1 or (self.position == first and not is_narrow):
            return None
        visible = self._causal(first)
        return visible if window is None else visible.triu(self.position - first + 1 - window)

    def _causal(self, first: int) -> Tensor:
        """Return bool [num_tokens, end - first], True where a key is not later."""
        shape = (self.num_tokens, self.end - first)
        visible = torch.ones(shape, dtype=torch.bool, device=self._tables.device)
        return visible.tril(self.position - first)
