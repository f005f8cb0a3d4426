"""What of a span a CPU computes as the reference does, for want of a faster way."""

from typing import Final

import torch

from swarm_server.engine.decoder_block import (
    BlockParts,
    DecoderBlock,
    NormedResidualBlock,
    ParallelBlock,
    SandwichBlock,
)
from swarm_server.engine.feed_forward import MixtureOfExperts
from swarm_server.engine.norms import OffsetRMSNorm
from swarm_server.engine.span import Span

_KINDS: Final = (DecoderBlock, NormedResidualBlock, ParallelBlock, SandwichBlock)


def reference_parts(span: Span) -> list[str]:
    """Return what there is of that in the span's blocks, for the log; empty is the usual case.

    Norms and rotations have faster ways in bfloat16 alone, so in float32 none of them is named.
    """
    found = set[str]()
    for layer in span.layers(span.blocks):
        if isinstance(layer, _KINDS):
            found.update(_parts_of_block(layer.parts, span.dtype))
    return sorted(found)


def _parts_of_block(parts: BlockParts, dtype: torch.dtype) -> list[str]:
    found = []
    if isinstance(parts.mlp, MixtureOfExperts):
        found.append("experts, one after the other")
    if dtype == torch.bfloat16:
        if isinstance(parts.attention_norm, OffsetRMSNorm):
            found.append("norms with offset weights")
        if parts.attention.qk_norm is not None:
            found.append("rotations of normed queries and keys")
    return found
