"""A fused block computes what its parts say, written out in plain float32."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from tests.unit.swarm_server.engine.cuda.pages import DEVICE, IS_INTERPRETED, PagedBlock

from swarm_server.engine.cuda.attention import (  # isort: skip  # the import above may skip all
    DecodeAttention,
    Heads,
)
from swarm_server.engine.cuda.fused_block import FusedBlock  # isort: skip

HIDDEN, INNER = 64, 96
HEADS = Heads(4, 2, 32, 32**-0.5)


def random_block() -> FusedBlock:
    def weight(*shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(sum(shape))
        values: Tensor = torch.randn(shape, generator=generator) / shape[-1] ** 0.5
        return values.to(DEVICE)

    return FusedBlock(
        heads=HEADS,
        norm_eps=1e-5,
        attention_norm=weight(HIDDEN).abs() + 0.5,
        qkv=weight(8 * 32, HIDDEN),
        qkv_bias=None,
        out=weight(HIDDEN, 4 * 32),
        mlp_norm=weight(HIDDEN).abs() + 0.5,
        gate_up=weight(2 * INNER, HIDDEN),
        gate_up_bias=None,
        down=weight(HIDDEN, INNER),
    )


def test_a_fused_block_equals_its_parts() -> None:
    """Attention, then the MLP, each on normed hidden states and added to them."""
    block, paged = random_block(), PagedBlock(HEADS, [(30, 1), (7, 2)])
    rows = paged.rows(rotated=False)
    given = torch.randn(3, HIDDEN).to(DEVICE)

    hidden = given.clone()
    block.run(hidden, rows, paged.pages, DecodeAttention(3, HEADS, torch.device(DEVICE)))

    normed = rms_norm(given, (HIDDEN,), block.attention_norm, 1e-5)
    paged.qkv = normed @ block.qkv.t()
    between = given + paged.attended() @ block.out.t()
    normed = rms_norm(between, (HIDDEN,), block.mlp_norm, 1e-5)
    gate, up = (normed @ block.gate_up.t()).chunk(2, -1)
    expected = between + (silu(gate) * up) @ block.down.t()
    torch.testing.assert_close(
        hidden, expected, rtol=0.0, atol=1e-4
    )  # float32 sums of 96 terms, twice


@pytest.mark.skipif(IS_INTERPRETED, reason="Triton's interpreter multiplies no bfloat16")
def test_a_block_of_16_bits_stays_near_that_of_32() -> None:
    """The deviation is that of rounding: 8 bits of mantissa, a few times."""
    exact, paged = random_block(), PagedBlock(HEADS, [(30, 1), (7, 2)])
    rounded = replace(
        exact,
        attention_norm=exact.attention_norm.bfloat16(),
        qkv=exact.qkv.bfloat16(),
        out=exact.out.bfloat16(),
        mlp_norm=exact.mlp_norm.bfloat16(),
        gate_up=exact.gate_up.bfloat16(),
        down=exact.down.bfloat16(),
    )
    rows = paged.rows()
    given = torch.randn(3, HIDDEN).to(DEVICE)

    hidden, rounded_hidden = given.clone(), given.bfloat16()
    attention = DecodeAttention(3, HEADS, torch.device(DEVICE))
    rounded.run(rounded_hidden, rows, paged.pages.bfloat16(), attention)
    exact.run(hidden, rows, paged.pages, attention)

    torch.testing.assert_close(rounded_hidden.float(), hidden, rtol=0.0, atol=0.1)
