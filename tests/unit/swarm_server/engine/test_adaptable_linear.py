"""Products that an adapter may change."""

import torch
from torch import Tensor

from swarm_server.engine.adaptable_linear import (
    AdaptableLinear,
    AdapterRows,
    LowRank,
    select_rows,
)
from swarm_server.engine.linear import make_linear


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


WEIGHT, ROWS = random(5, 4), random(3, 4)
LAYER = AdaptableLinear("qkv", make_linear(WEIGHT))
LOW_RANK = LowRank(random(2, 4), random(5, 2))


def adapted(start: int, end: int, name: str = "qkv") -> list[AdapterRows]:
    return [AdapterRows(start, end, {name: LOW_RANK})]


def test_an_adapter_adds_its_product_to_that_of_the_weight() -> None:
    """As if `up @ down` had been added to the weight."""
    merged = WEIGHT + LOW_RANK.up @ LOW_RANK.down

    torch.testing.assert_close(LAYER(ROWS, adapted(0, 3)), ROWS @ merged.T)


def test_an_adapter_is_exact_in_a_span_of_16_bits() -> None:
    """Only rows, base product and sum are rounded."""
    layer = AdaptableLinear("qkv", make_linear(torch.zeros(5, 4, dtype=torch.bfloat16)))
    rows = ROWS.bfloat16()

    product = layer(rows, adapted(0, 3))

    exact = rows.float() @ LOW_RANK.down.T @ LOW_RANK.up.T
    assert product.equal(exact.bfloat16())


def test_a_step_without_adapter_computes_what_the_base_does() -> None:
    """Bit for bit, and also when the adapter is for other layers."""
    base = make_linear(WEIGHT)(ROWS)

    assert torch.equal(LAYER(ROWS, []), base)
    assert torch.equal(LAYER(ROWS, adapted(0, 3, "down")), base)


def test_gradients_flow_through_both_products() -> None:
    """To the rows; the adapter's matrices are fixed."""
    rows = ROWS.clone().requires_grad_()
    merged = WEIGHT + LOW_RANK.up @ LOW_RANK.down

    (gradient,) = torch.autograd.grad(LAYER(rows, adapted(0, 3)).sum(), rows)

    torch.testing.assert_close(gradient, merged.sum(0).expand(3, 4))


def test_an_adapter_changes_its_own_rows_only() -> None:
    """Neighbours in the batch get what the base gives, bit for bit."""
    base, changed = LAYER(ROWS, []), LAYER(ROWS, adapted(0, 3))

    product = LAYER(ROWS, adapted(1, 2))

    assert torch.equal(product[[0, 2]], base[[0, 2]])
    torch.testing.assert_close(product[1], changed[1])


def test_picked_rows_keep_their_adapters() -> None:
    """Ranges shrink to the rows that were picked; one without any is gone."""
    first, second, third = {"a": LOW_RANK}, {"b": LOW_RANK}, {"c": LOW_RANK}
    parts = [AdapterRows(0, 2, first), AdapterRows(2, 5, second), AdapterRows(7, 9, third)]

    picked = select_rows(parts, torch.tensor([1, 5, 6, 7, 8]))

    assert picked == [AdapterRows(0, 1, first), AdapterRows(3, 5, third)]
