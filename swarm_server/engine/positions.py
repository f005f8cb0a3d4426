"""Rotary rows and ALiBi biases: tables of a span, and what one batch needs of them."""

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

    def rope(self, rope: Rope) -> RopeTable:
        """Return the table of a rope."""
        table = self._ropes.get(rope)
        if table is None:
            table = RopeTable(rope, self._head_dim, dtype=self._dtype, device=self.device)
            self._ropes[rope] = table
        return table

    def alibi(self, alibi: Alibi, end: int) -> Tensor:
        """Return the biases of keys [0, end); see `AlibiTable.keys`."""
        table = self._alibis.get(alibi)
        if table is None:
            table = self._alibis[alibi] = AlibiTable(alibi, dtype=self._dtype, device=self.device)
        return table.keys(end)


class BatchPositions:
    """The positions of a batch's tokens. Lives as long as the batch.

    Rotary rows are looked up when the first block asks for them.
    """

    def __init__(self, positions: Tensor, end: int, tables: PositionTables) -> None:
        """Take positions.

        Args:
            positions: int64 [num_tokens], on the tables' device.
            end: larger than any of them.
            tables: of the span.
        """
        self._positions = positions
        self._end = end
        self._tables = tables
        self._rotary: dict[Rope, tuple[Tensor, Tensor]] = {}

    def rotary(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of the tokens, each [num_tokens, 1, head_dim]."""
        rows = self._rotary.get(rope)
        if rows is None:
            rows = self._tables.rope(rope).rows(self._positions, self._end)
            self._rotary[rope] = rows
        return rows
