"""Products of a lone row equal the plain ones."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, silu

from tests.unit.swarm_server.engine.cuda.pages import DEVICE

from swarm_server.engine.cuda.lone_row import (  # isort: skip  # the import above may skip all
    add_product,
    gate_normed,
    multiply_normed,
)

WIDTH = 1500  # no whole number of blocks


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE)


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_normed_row_is_multiplied(has_bias: bool) -> None:
    """With any number of outputs."""
    row, norm, weight = random(1, WIDTH), random(WIDTH), random(37, WIDTH) / WIDTH**0.5
    bias = random(37) if has_bias else None

    product = multiply_normed(row, norm, 1e-5, weight, bias)

    expected = linear(rms_norm(row, (WIDTH,), norm, 1e-5), weight, bias)
    torch.testing.assert_close(product, expected, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("has_bias", [False, True])
def test_gate_and_factor_are_joined(has_bias: bool) -> None:
    """Both are products with the same normed row."""
    row, norm, gate_up = random(1, WIDTH), random(WIDTH), random(74, WIDTH) / WIDTH**0.5
    bias = random(74) if has_bias else None

    gated = gate_normed(row, norm, 1e-5, gate_up, bias)

    gate, up = linear(rms_norm(row, (WIDTH,), norm, 1e-5), gate_up, bias).chunk(2, -1)
    torch.testing.assert_close(gated, silu(gate) * up, rtol=0.0, atol=1e-5)


def test_a_product_is_added_in_place() -> None:
    """To what the block before has left."""
    total, row, weight = random(1, 37), random(1, WIDTH), random(37, WIDTH) / WIDTH**0.5
    expected = total + linear(row, weight)

    add_product(total, row, weight)

    torch.testing.assert_close(total, expected, rtol=0.0, atol=1e-5)
