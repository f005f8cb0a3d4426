"""Laying an adapter's matrices out for layers that join several modules."""

import torch

from swarm_server.adapters import Layer, Module
from swarm_server.adapters.layers import lay_out

QKV = Layer((Module("q", 4, 6), Module("k", 2, 6), Module("v", 2, 6)))


def delta(num_outputs: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_outputs)
    down = torch.randn(rank, 6, generator=generator)
    return down, torch.randn(num_outputs, rank, generator=generator)


def test_each_module_changes_its_own_outputs_and_no_others() -> None:
    """Without an adapter for `k`, its rows of the product are zero."""
    deltas = {"q": delta(4, 3), "v": delta(2, 3)}

    weights = lay_out(QKV, deltas, device="cpu")

    assert weights is not None
    change = weights.up @ weights.down
    torch.testing.assert_close(change[:4], deltas["q"][1] @ deltas["q"][0])
    assert change[4:6].abs().max() == 0
    torch.testing.assert_close(change[6:], deltas["v"][1] @ deltas["v"][0])


def test_outputs_follow_the_order_of_the_layer() -> None:
    """Where the loader reorders a weight's rows, the adapter's go along."""
    layer = Layer((Module("q", 4, 6),), arrange=lambda rows: rows.flip(0))
    down, up = delta(4, 3)

    weights = lay_out(layer, {"q": (down, up)}, device="cpu")

    assert weights is not None
    torch.testing.assert_close(weights.up @ weights.down, (up @ down).flip(0))


def test_a_layer_without_adapted_modules_gets_nothing() -> None:
    """So that it computes nothing for the adapter."""
    assert lay_out(QKV, {"other": delta(4, 3)}, device="cpu") is None
