"""Rotary tables."""

import torch
from torch import Tensor

from swarm_server.engine.rope import Rope, RopeTable, rotate_in_place


def make_table() -> RopeTable:
    return RopeTable(Rope(theta=100.0), 8, dtype=torch.float32)


def rows_at(position: int) -> tuple[Tensor, Tensor]:
    return make_table().rows(torch.tensor([position]), position + 1)


def test_rows_do_not_change_when_the_table_grows() -> None:
    """Positions looked up before and after growing have the same angles."""
    table = make_table()
    cos, sin = table.rows(torch.arange(500, 512), 512)

    table.rows(torch.tensor([5000]), 5001)

    grown_cos, grown_sin = table.rows(torch.arange(500, 512), 512)
    assert torch.equal(cos, grown_cos)
    assert torch.equal(sin, grown_sin)


def test_position_zero_turns_nothing() -> None:
    """The first token is left as it is."""
    heads = torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(0))
    before = heads.clone()

    rotate_in_place(heads, *rows_at(0))

    assert torch.equal(heads, before)


def test_scores_depend_on_the_distance_only() -> None:
    """The product of two rotated vectors is the same wherever they stand together."""
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 8, generator=generator)
    scores = []
    for start in (0, 40):
        turned_query, turned_key = query.clone(), key.clone()
        rotate_in_place(turned_query, *rows_at(start + 3))
        rotate_in_place(turned_key, *rows_at(start))
        scores.append((turned_query * turned_key).sum())

    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=0)
