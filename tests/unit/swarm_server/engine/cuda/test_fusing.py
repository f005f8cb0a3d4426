"""Which spans the kernels cover, and what a fused block takes from the block it stands for."""

from dataclasses import replace

import pytest
import torch

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.adaptable_linear import AdaptableLinear
from swarm_server.engine.attention import Attention, AttentionShape
from swarm_server.engine.decoder_block import (
    BlockParts,
    BlockShape,
    DecoderBlock,
    NormedResidualBlock,
)
from swarm_server.engine.feed_forward import GatedMLP, gelu_tanh
from swarm_server.engine.linear import make_linear
from swarm_server.engine.norms import LayerNorm, RMSNorm
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.rope import Rope
from swarm_server.engine.span import Block, Span
from swarm_server.kv import KVLayout

pytest.importorskip("triton", reason="fused blocks need Triton")

from swarm_server.engine.cuda.fusing import (  # needs Triton
    NotFusableError,
    fuse_block,
    fuse_span,
)

SHAPE = AttentionShape(4, 2, 16, Rope())


def linear(
    name: str, num_outputs: int, num_inputs: int, *, has_bias: bool = False
) -> AdaptableLinear:
    bias = torch.randn(num_outputs) if has_bias else None
    return AdaptableLinear(name, make_linear(torch.randn(num_outputs, num_inputs), bias))


def parts(
    shape: AttentionShape = SHAPE, *, has_bias: bool = False, out_has_bias: bool = False
) -> BlockParts:
    return BlockParts(
        attention_norm=RMSNorm(torch.rand(32), 1e-5),
        attention=Attention(
            shape,
            linear("qkv", 8 * shape.head_dim, 32, has_bias=has_bias),
            linear("attention_out", 32, 4 * shape.head_dim, has_bias=out_has_bias),
            qk_norm=RMSNorm(torch.rand(6, shape.head_dim), 1e-6),
        ),
        mlp_norm=RMSNorm(torch.rand(32), 1e-5),
        mlp=GatedMLP(linear("gate_up", 96, 32), linear("down", 32, 48)),
    )


def span_of(*blocks: Block) -> Span:
    shape = BlockShape(32, 2, 16)
    return Span(BlockRange(3, 3 + len(blocks)), blocks, shape, dtype=torch.float32)


def storage_of(span: Span, page_size: int = 16) -> PageStorage:
    layout = KVLayout(span.windows, page_size)
    return PageStorage(layout, 4, num_kv_heads=2, head_dim=16, dtype=torch.float32)


def test_a_fused_block_uses_the_weights_of_the_block_itself() -> None:
    """Not a copy, which would take memory twice."""
    given = parts(has_bias=True)

    fused = fuse_block(DecoderBlock(given))

    product = fused.qkv @ torch.ones(32) + (0 if fused.qkv_bias is None else fused.qkv_bias)
    torch.testing.assert_close(product, given.attention.qkv(torch.ones(1, 32), ())[0])
    assert isinstance(given.attention_norm, RMSNorm)
    assert fused.attention_norm is given.attention_norm.weight
    assert fused.heads.qk_norm_eps == 1e-6
    assert (fused.heads.group, fused.heads.scale) == (2, 0.25)


def test_a_span_is_fused_over_its_own_pages() -> None:
    """One tensor of pages for each block, in order."""
    span = span_of(DecoderBlock(parts()), DecoderBlock(parts()))
    storage = storage_of(span)

    fused = fuse_span(span, storage)

    assert fused.range == BlockRange(3, 5)
    assert [pages.data_ptr() for pages in fused.pages] == [
        storage.pages_of(index).data_ptr() for index in (0, 1)
    ]


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (NormedResidualBlock(parts()), "NormedResidualBlock"),
        (DecoderBlock(parts(replace(SHAPE, window=8))), "windows"),
        (DecoderBlock(parts(replace(SHAPE, rope=None))), "no rotations"),
        (DecoderBlock(parts(replace(SHAPE, head_dim=24))), "heads of 24"),
        (DecoderBlock(parts(out_has_bias=True)), "biases"),
        (
            DecoderBlock(
                replace(parts(), mlp_norm=LayerNorm(torch.ones(32), torch.ones(32), 1e-5))
            ),
            "LayerNorm",
        ),
        (
            DecoderBlock(replace(parts(), mlp_norm=RMSNorm(torch.ones(32), 1e-6))),
            "different epsilons",
        ),
        (
            DecoderBlock(
                replace(
                    parts(),
                    mlp=GatedMLP(linear("gate_up", 96, 32), linear("down", 32, 48), gelu_tanh),
                )
            ),
            "SiLU",
        ),
    ],
)
def test_what_is_not_covered_is_named(block: Block, reason: str) -> None:
    """So that the log can say why a server is slower than others."""
    span = span_of(block)

    with pytest.raises(NotFusableError, match=reason):
        fuse_span(span, storage_of(span))


def test_blocks_must_rotate_alike_and_pages_fit_a_product() -> None:
    """Rotations are computed once for all blocks; a kernel takes a page at a time."""
    mixed = span_of(
        DecoderBlock(parts()), DecoderBlock(parts(replace(SHAPE, rope=Rope(theta=5e5))))
    )
    plain = span_of(DecoderBlock(parts()))

    with pytest.raises(NotFusableError, match="rotate differently"):
        fuse_span(mixed, storage_of(mixed))
    with pytest.raises(NotFusableError, match="pages of 24 tokens"):
        fuse_span(plain, storage_of(plain, page_size=24))
