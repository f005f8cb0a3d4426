"""Positions of the tokens of a batch."""

import torch

from swarm_server.engine.positions import BatchPositions, PositionTables
from swarm_server.engine.rope import Rope


def test_rotary_rows_are_those_of_each_token() -> None:
    """In any order and repeated, as sequences in a batch have them; looked up once."""
    tables = PositionTables(8, dtype=torch.float32)
    positions = BatchPositions(torch.tensor([7, 0, 7, 900]), 901, tables)

    cos, sin = positions.rotary(Rope())

    assert torch.equal(cos[0], cos[2])
    alone = BatchPositions(torch.tensor([900]), 901, tables).rotary(Rope())
    assert torch.equal(cos[3:], alone[0])
    assert torch.equal(sin[3:], alone[1])
    assert positions.rotary(Rope())[0] is cos
