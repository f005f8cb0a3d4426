"""How the parts of a transformer layer are joined: one after the other, or side by side."""

from dataclasses import dataclass

from torch import Tensor

from swarm_server.engine.attention import Attention
from swarm_server.engine.block_context import BlockContext
from swarm_server.engine.feed_forward import FeedForward
from swarm_server.engine.norms import Norm


@dataclass(frozen=True, slots=True)
class BlockShape:
    """What a span must know of its blocks: the width of hidden states and of the KV cache."""

    hidden_size: int
    num_kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True)
class BlockParts:
    """The parts that every block has."""

    attention_norm: Norm
    attention: Attention
    mlp_norm: Norm
    mlp: FeedForward


class DecoderBlock:
    """Attention, then the MLP, each on normed hidden states and added to them."""

    def __init__(self, parts: BlockParts) -> None:
        self.window = parts.attention.window
        self.parts = parts

    def run(self, hidden: Tensor, context: BlockContext) -> Tensor:
        """Return the hidden states after this block; see `engine.span.Block.run`."""
        parts = self.parts
        normed = parts.attention_norm(hidden)
        hidden = context.wanted_of(hidden) + parts.attention.run(normed, context)
        return hidden + parts.mlp(parts.mlp_norm(hidden), context.adapters)


class NormedResidualBlock:
    """The same, but what is added to are the normed hidden states (some BLOOMs)."""

    def __init__(self, parts: BlockParts) -> None:
        self.window = parts.attention.window
        self.parts = parts

    def run(self, hidden: Tensor, context: BlockContext) -> Tensor:
        """Return the hidden states after this block; see `engine.span.Block.run`."""
        parts = self.parts
        normed = parts.attention_norm(hidden)
        attended = parts.attention.run(normed, context)
        hidden = parts.mlp_norm(context.wanted_of(normed) + attended)
        return hidden + parts.mlp(hidden, context.adapters)


class SandwichBlock:
    """The same as `DecoderBlock`, with norms after attention and MLP as well (Gemma 3)."""

    def __init__(self, parts: BlockParts, *, after_attention: Norm, after_mlp: Norm) -> None:
        self.window = parts.attention.window
        self.parts = parts
        self._after_attention = after_attention
        self._after_mlp = after_mlp

    def run(self, hidden: Tensor, context: BlockContext) -> Tensor:
        """Return the hidden states after this block; see `engine.span.Block.run`."""
        parts = self.parts
        normed = parts.attention_norm(hidden)
        attended = parts.attention.run(normed, context)
        hidden = context.wanted_of(hidden) + self._after_attention(attended)
        fed = parts.mlp(parts.mlp_norm(hidden), context.adapters)
        return hidden + self._after_mlp(fed)


class ParallelBlock:
    """Attention and MLP side by side, both added to the hidden states (Falcon)."""

    def __init__(self, parts: BlockParts) -> None:
        """Take the parts; where both norms are the same object, it is computed once."""
        self.window = parts.attention.window
        self.parts = parts

    def run(self, hidden: Tensor, context: BlockContext) -> Tensor:
        """Return the hidden states after this block; see `engine.span.Block.run`."""
        parts = self.parts
        normed = parts.attention_norm(hidden)
        attended = parts.attention.run(normed, context)
        hidden = context.wanted_of(hidden)
        is_shared = parts.mlp_norm is parts.attention_norm
        mlp_normed = context.wanted_of(normed) if is_shared else parts.mlp_norm(hidden)
        return hidden + (parts.mlp(mlp_normed, context.adapters) + attended)
