"""Where the chunk of a step stands, and what follows from that for rotations and masks."""

import torch
from torch import Tensor

from swarm_server.engine.alibi import Alibi, AlibiTable
from swarm_server.engine.rope import Rope, RopeTable


class PositionTables:
    """Rotary and ALiBi tables of a span, made when a block first asks, and kept."""

    def __init__(self, head_dim: int, *, dtype: torch.dtype, device: str = "cpu") -> None:
        self.device = device
        self._head_dim = head_dim
        self._dtype = dtype
        self._ropes: dict[Rope, RopeTable] = {}
        self._alibis: dict[Alibi, AlibiTable] = {}

    def rotary(self, rope: Rope, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of positions [start, end); see `RopeTable.rows`."""
        table = self._ropes.get(rope)
        if table is None:
            table = RopeTable(rope, self._head_dim, dtype=self._dtype, device=self.device)
            self._ropes[rope] = table
        return table.rows(start, end)

    def alibi(self, alibi: Alibi, end: int) -> Tensor:
        """Return the biases of keys [0, end); see `AlibiTable.keys`."""
        table = self._alibis.get(alibi)
        if table is None:
            table = self._alibis[alibi] = AlibiTable(alibi, dtype=self._dtype, device=self.device)
        return table.keys(end)


class ChunkPositions:
    """A chunk of `num_tokens` that begins at `position`. Lives for one step.

    Rotary rows and masks are computed when the first block asks for them.
    """

    def __init__(self, position: int, num_tokens: int, tables: PositionTables) -> None:
        self.position = position
        self.num_tokens = num_tokens
        self._tables = tables
        self._rotary: dict[Rope, tuple[Tensor, Tensor]] = {}
        self._masks: dict[int | Alibi | None, Tensor | None] = {}

    def rotary(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of the chunk, each [num_tokens, 1, head_dim]."""
        rows = self._rotary.get(rope)
        if rows is None:
            end = self.position + self.num_tokens
            rows = self._rotary[rope] = self._tables.rotary(rope, self.position, end)
        return rows

    def first_key(self, window: int | None) -> int:
        """Return the first position that any token of the chunk may look at."""
        return 0 if window is None else max(0, self.position + 1 - window)

    def mask(self, window: int | None = None) -> Tensor | None:
        """Return where tokens may look, bool [num_tokens, num_keys].

        Keys are those from `first_key(window)` to the end of the chunk; each token sees itself
        and, with a window, the `window - 1` tokens before. None stands for "everything" when the
        chunk is one token, and for "plainly causal" when it begins with the first key.
        """
        if window not in self._masks:
            self._masks[window] = self._boolean_mask(window)
        return self._masks[window]

    def alibi_mask(self, alibi: Alibi) -> Tensor:
        """Return what is added to scores, [num_heads, num_tokens or 1, position + num_tokens]."""
        mask = self._masks.get(alibi)
        if mask is None:
            mask = self._tables.alibi(alibi, self.position + self.num_tokens)
            if self.num_tokens > 1:
                visible = _causal(self.position, self.num_tokens, self._tables.device)
                mask = mask.masked_fill(~visible, -torch.inf)
            self._masks[alibi] = mask
        return mask

    def _boolean_mask(self, window: int | None) -> Tensor | None:
        first = self.first_key(window)
        is_narrow = window is not None and self.position + self.num_tokens - first > window
        if self.num_tokens == 1 or (self.position == first and not is_narrow):
            return None
        visible = _causal(self.position - first, self.num_tokens, self._tables.device)
        if window is None:
            return visible
        return visible.triu(self.position - first + 1 - window)


def _causal(num_before: int, num_tokens: int, device: str) -> Tensor:
    """Return bool [num_tokens, num_before + num_tokens], True where a key is not later."""
    shape = (num_tokens, num_before + num_tokens)
    return torch.ones(shape, dtype=torch.bool, device=device).tril(num_before)
