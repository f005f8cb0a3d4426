"""Which weights are packed, and that both layouts give the same products."""

import pytest
import torch

from swarm_kernels import can_pack, pack_weight
from swarm_kernels.tiled_weight import TiledWeight, can_tile


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiles_hold_the_weight_and_multiply_with_it(dtype: torch.dtype) -> None:
    """As oneDNN does; the result is rounded to the dtype of the rows before it gets wider."""
    if not can_tile(dtype):
        pytest.skip("this torch or processor has no such products")
    torch.manual_seed(0)
    weight, bias, rows = (torch.randn(size).to(dtype) for size in [(70, 48), (70,), (5, 48)])

    tiled = TiledWeight(weight, bias)

    assert torch.equal(tiled.unpack(), weight)
    exact = rows.double() @ weight.double().T + bias.double()
    outputs = tiled.multiply(rows, torch.float32)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(
        outputs.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-4 + torch.finfo(dtype).eps
    )


def test_other_dtypes_devices_and_small_weights_are_left_to_torch() -> None:
    """A packed product costs more than a small one."""
    assert not can_pack(torch.ones(4, 4))
    assert not can_pack(torch.ones(1024, 1024, dtype=torch.float16))
    assert not can_pack(torch.empty(1024, 1024, dtype=torch.bfloat16, device="meta"))


def test_what_can_be_packed_is_multiplied_in_its_dtype() -> None:
    """Unless asked for another one."""
    weight, rows = torch.ones(32, 64).bfloat16(), torch.ones(2, 64).bfloat16()
    if not can_pack(weight):
        pytest.skip("neither a compiler nor oneDNN's products here")
    packed = pack_weight(weight)

    assert torch.equal(packed.multiply(rows), torch.full((2, 32), 64.0).bfloat16())
    assert torch.equal(packed.multiply(rows, torch.float32), torch.full((2, 32), 64.0))
