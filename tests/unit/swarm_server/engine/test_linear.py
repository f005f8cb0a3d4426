"""Packed products equal plain ones."""

import pytest
import torch
from torch.nn.functional import linear

from swarm_server.engine.linear import make_linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 48), (3, 5, 48), (17, 48)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_packed_product_equals_the_plain_one(
    dtype: torch.dtype, shape: tuple[int, ...], has_bias: bool
) -> None:
    """For any number of rows and either dtype, up to the order of summing."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(20, 48, generator=generator).to(dtype)
    bias = torch.randn(20, generator=generator).to(dtype) if has_bias else None
    rows = torch.randn(shape, generator=generator).to(dtype)

    with torch.inference_mode():
        product = make_linear(weight, bias)(rows)

    expected = linear(rows, weight, bias)
    tolerance = 1e-5 if dtype == torch.float32 else 0.13  # one rounding of values up to 32
    torch.testing.assert_close(product, expected, atol=tolerance, rtol=0)


def test_float16_is_left_plain() -> None:
    """A dtype that oneDNN does not pack here gets torch's own product."""
    weight = torch.ones(2, 3, dtype=torch.float16)

    product = make_linear(weight)(torch.ones(1, 3, dtype=torch.float16))

    assert product.tolist() == [[3, 3]]
