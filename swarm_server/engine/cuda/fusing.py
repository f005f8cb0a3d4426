"""From the blocks of a span to fused ones, which use the same weights: nothing is copied."""

from torch.nn.functional import silu

from swarm_server.engine.adaptable_linear import AdaptableLinear
from swarm_server.engine.attention import Attention
from swarm_server.engine.cuda.attention import Heads
from swarm_server.engine.cuda.fused_block import FusedBlock
from swarm_server.engine.cuda.fused_span import FusedSpan
from swarm_server.engine.decoder_block import DecoderBlock
from swarm_server.engine.feed_forward import FeedForward, GatedMLP
from swarm_server.engine.linear import PlainLinear
from swarm_server.engine.norms import Norm, RMSNorm
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.rope import Rope
from swarm_server.engine.span import Block, Span

_LEAST_PAGE_SIZE = 16  # a matrix product of the GPU takes no fewer keys


class NotFusableError(Exception):
    """The kernels here do not cover a span. The message says what it has that they lack."""


def fuse_span(span: Span, storage: PageStorage) -> FusedSpan:
    """Return the span's blocks as fused ones, over its pages.

    Raises:
        NotFusableError: see the class.
    """
    page_size = storage.layout.page_size
    if page_size < _LEAST_PAGE_SIZE or page_size & (page_size - 1):
        raise NotFusableError(f"pages of {page_size} tokens")
    layers = span.layers(span.blocks)
    rotations = {_rotation(block) for block in layers}
    if len(rotations) > 1:
        raise NotFusableError("blocks that rotate differently")
    frequencies = rotations.pop().frequencies(span.shape.head_dim).to(span.device)
    return FusedSpan(
        range=span.blocks,
        blocks=tuple(fuse_block(block) for block in layers),
        pages=tuple(storage.pages_of(index) for index in range(len(layers))),
        frequencies=frequencies,
    )


def fuse_block(block: Block) -> FusedBlock:
    """Return a block as a fused one. Raises NotFusableError."""
    parts = _decoder(block).parts
    attention_norm, mlp_norm = _rms_norm(parts.attention_norm), _rms_norm(parts.mlp_norm)
    if attention_norm.eps != mlp_norm.eps:
        raise NotFusableError("norms with different epsilons")
    qkv, out = _plain(parts.attention.qkv), _plain(parts.attention.out)
    mlp = _gated(parts.mlp)
    gate_up, down = _plain(mlp.gate_up), _plain(mlp.down)
    if out.bias is not None or down.bias is not None:
        raise NotFusableError("biases on what is added to the hidden states")
    return FusedBlock(
        heads=_heads(parts.attention),
        norm_eps=attention_norm.eps,
        attention_norm=attention_norm.weight,
        qkv=qkv.weight,
        qkv_bias=qkv.bias,
        out=out.weight,
        mlp_norm=mlp_norm.weight,
        gate_up=gate_up.weight,
        gate_up_bias=gate_up.bias,
        down=down.weight,
    )


def _decoder(block: Block) -> DecoderBlock:
    if not isinstance(block, DecoderBlock):
        raise NotFusableError(f"blocks of the kind {type(block).__name__}")
    return block


def _rotation(block: Block) -> Rope:
    rope = _decoder(block).parts.attention.shape.rope
    if rope is None:
        raise NotFusableError("positions that are no rotations")
    return rope


def _heads(attention: Attention) -> Heads:
    shape = attention.shape
    if shape.window is not None:
        raise NotFusableError("windows")
    if shape.head_dim & (shape.head_dim - 1) or shape.head_dim < 16:
        raise NotFusableError(f"heads of {shape.head_dim}")
    norm = None if attention.qk_norm is None else _rms_norm(attention.qk_norm)
    return Heads(
        shape.num_heads,
        shape.num_kv_heads,
        shape.head_dim,
        shape.scoring.scale,
        qk_norm=None if norm is None else norm.weight,
        qk_norm_eps=0.0 if norm is None else norm.eps,
    )


def _rms_norm(norm: Norm) -> RMSNorm:
    if not isinstance(norm, RMSNorm):
        raise NotFusableError(f"norms of the kind {type(norm).__name__}")
    return norm


def _gated(mlp: FeedForward) -> GatedMLP:
    if not isinstance(mlp, GatedMLP) or mlp.activation is not silu:
        raise NotFusableError("an MLP without a gate of SiLU")
    return mlp


def _plain(layer: AdaptableLinear) -> PlainLinear:
    if not isinstance(layer.base, PlainLinear):
        raise NotFusableError("weights in a layout of their own")
    return layer.base
