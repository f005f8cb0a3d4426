"""Packed products equal plain ones."""

import pytest
import torch
from torch.nn.functional import linear
from torch.testing import assert_close

from swarm_server.engine.linear import make_linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 480), (3, 5, 480), (17, 480)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_packed_product_equals_the_plain_one(
    dtype: torch.dtype, shape: tuple[int, ...], has_bias: bool
) -> None:
    """For any number of rows and either dtype, up to the order of summing."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1100, 480, generator=generator).to(dtype)
    bias = torch.randn(1100, generator=generator).to(dtype) if has_bias else None
    rows = torch.randn(shape, generator=generator).to(dtype)

    with torch.inference_mode():
        product = make_linear(weight, bias)(rows)

    expected = linear(rows, weight, bias)
    # Values reach 100: float32 sums 480 of them in another order, bfloat16 rounds once.
    tolerance = 1e-4 if dtype == torch.float32 else 0.5
    torch.testing.assert_close(product, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_is_not_packed_is_multiplied_plainly(dtype: torch.dtype) -> None:
    """A dtype that oneDNN does not pack here, and a weight too small to gain by it."""
    weight = torch.ones(2, 3, dtype=dtype)

    product = make_linear(weight)(torch.ones(1, 3, dtype=dtype))

    assert product.tolist() == [[3, 3]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_bias", [False, True])
def test_gradients_flow_through_a_packed_product(dtype: torch.dtype, has_bias: bool) -> None:
    """They are those of the plain product, but for the order in which a row is summed up."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1100, 480, generator=generator).to(dtype)
    bias = torch.ones(1100, dtype=dtype) if has_bias else None
    rows = torch.randn(2, 3, 480, generator=generator).to(dtype).requires_grad_()
    gradient = torch.randn(2, 3, 1100, generator=generator).to(dtype)

    (got,) = torch.autograd.grad(make_linear(weight, bias)(rows), rows, gradient)

    # One rounding of the result in its dtype, or of 1100 summands of size one in float32.
    tolerance = max(torch.finfo(dtype).eps, 1e-6)
    expected = gradient.double() @ weight.double()
    assert_close(
        got.double(), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())
    )
