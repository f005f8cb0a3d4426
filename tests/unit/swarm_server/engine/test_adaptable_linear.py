"""Products that an adapter may change."""

import torch
from torch import Tensor

from swarm_server.engine.adaptable_linear import AdaptableLinear, LowRank
from swarm_server.engine.linear import make_linear


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


WEIGHT, ROWS = random(5, 4), random(3, 4)
LAYER = AdaptableLinear("qkv", make_linear(WEIGHT))
LOW_RANK = LowRank(random(2, 4), random(5, 2))


def test_an_adapter_adds_its_product_to_that_of_the_weight() -> None:
    """As if `up @ down` had been added to the weight."""
    merged = WEIGHT + LOW_RANK.up @ LOW_RANK.down

    torch.testing.assert_close(LAYER(ROWS, {"qkv": LOW_RANK}), ROWS @ merged.T)


def test_an_adapter_is_exact_in_a_span_of_16_bits() -> None:
    """Only rows, base product and sum are rounded."""
    layer = AdaptableLinear("qkv", make_linear(torch.zeros(5, 4, dtype=torch.bfloat16)))
    rows = ROWS.bfloat16()

    product = layer(rows, {"qkv": LOW_RANK})

    exact = rows.float() @ LOW_RANK.down.T @ LOW_RANK.up.T
    assert product.equal(exact.bfloat16())


def test_a_step_without_adapter_computes_what_the_base_does() -> None:
    """Bit for bit, and also when the adapter is for other layers."""
    base = make_linear(WEIGHT)(ROWS)

    assert torch.equal(LAYER(ROWS, None), base)
    assert torch.equal(LAYER(ROWS, {"down": LOW_RANK}), base)


def test_gradients_flow_through_both_products() -> None:
    """To the rows; the adapter's matrices are fixed."""
    rows = ROWS.clone().requires_grad_()
    merged = WEIGHT + LOW_RANK.up @ LOW_RANK.down

    (gradient,) = torch.autograd.grad(LAYER(rows, {"qkv": LOW_RANK}).sum(), rows)

    torch.testing.assert_close(gradient, merged.sum(0).expand(3, 4))
