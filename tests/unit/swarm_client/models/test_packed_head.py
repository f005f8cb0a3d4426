"""A packed head gives the logits of the plain one."""

import pytest
import torch
from torch import nn

from swarm_client.models.layers import frozen_linear
from swarm_client.models.packed_head import PackedHead, can_pack


@pytest.mark.parametrize("num_rows", [1, 3, 40])
def test_logits_are_those_of_the_plain_layer(num_rows: int) -> None:
    """But for the rounding of bfloat16 sums that were taken in another order."""
    torch.manual_seed(0)
    weight, hidden = torch.randn(100, 64).bfloat16(), torch.randn(num_rows, 64).bfloat16()
    if not can_pack(weight):
        pytest.skip("this processor has no fast bfloat16")

    logits = PackedHead(weight)(hidden)

    exact = hidden.float() @ weight.float().T
    torch.testing.assert_close(logits.float(), exact, rtol=2**-7, atol=2**-5)
    assert logits.shape == frozen_linear(weight)(hidden).shape


def test_only_bfloat16_on_a_cpu_is_packed() -> None:
    """Everywhere else the plain product is as fast, or the only one."""
    assert not can_pack(torch.randn(4, 4))
    assert not can_pack(torch.empty(4, 4, dtype=torch.bfloat16, device="meta"))
    assert isinstance(frozen_linear(torch.randn(4, 4)), nn.Linear)
