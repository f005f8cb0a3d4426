"""One transformer layer of the Llama kind, written for speed.

Pre-norm (RMS), grouped-query attention with rotary positions, gated SiLU MLP. Other families of
this kind need only a module in `loading` that says how their tensors are called.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn.functional import silu

from swarm_server.engine.adaptable_linear import AdaptableLinear, BlockAdapter
from swarm_server.engine.attention import ChunkContext, attend
from swarm_server.engine.linear import make_linear
from swarm_server.engine.rope import Rope, rotate_in_place


@dataclass(frozen=True, slots=True)
class BlockShape:
    """Sizes and constants that all blocks of a model share."""

    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: Rope
    has_attention_bias: bool = False
    has_mlp_bias: bool = False


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """Tensors of one block, [num_outputs, num_inputs] each, fused along their outputs."""

    attention_norm: Tensor
    mlp_norm: Tensor
    qkv: Tensor
    attention_out: Tensor
    gate_up: Tensor
    down: Tensor
    qkv_bias: Tensor | None = None
    attention_out_bias: Tensor | None = None
    gate_up_bias: Tensor | None = None
    down_bias: Tensor | None = None


class KVWriter(Protocol):
    """Where a block leaves the keys and values of a chunk, and finds those of the prefix."""

    def write(self, block_index: int, keys_values: Tensor) -> tuple[Tensor, Tensor]:
        """Store a chunk's keys and values and return all up to its end.

        Args:
            block_index: counted from the first block of the session.
            keys_values: [batch, num_tokens, 2 * num_kv_heads, head_dim], keys first.

        Returns:
            Keys and values, each [batch, num_kv_heads, position + num_tokens, head_dim].
        """


class DecoderBlock:
    """One block. Stateless but for its weights."""

    def __init__(self, shape: BlockShape, weights: BlockWeights) -> None:
        """Lay out the weights; the caller should let go of them then."""
        self._shape = shape
        self._attention_norm = weights.attention_norm
        self._mlp_norm = weights.mlp_norm
        self._qkv = AdaptableLinear("qkv", make_linear(weights.qkv, weights.qkv_bias))
        self._attention_out = AdaptableLinear(
            "attention_out", make_linear(weights.attention_out, weights.attention_out_bias)
        )
        self._gate_up = AdaptableLinear(
            "gate_up", make_linear(weights.gate_up, weights.gate_up_bias)
        )
        self._down = AdaptableLinear("down", make_linear(weights.down, weights.down_bias))

    def run(self, hidden: Tensor, kv: KVWriter, kv_index: int, context: ChunkContext) -> Tensor:
        """Return the hidden states after this block, [batch, num_tokens, hidden_size]."""
        hidden = hidden + self._attention(hidden, kv, kv_index, context)
        return hidden + self._mlp(hidden, context.adapter)

    def _attention(
        self, hidden: Tensor, kv: KVWriter, kv_index: int, context: ChunkContext
    ) -> Tensor:
        shape = self._shape
        batch, num_tokens, _ = hidden.shape
        normed = rms_norm(hidden, self._attention_norm, shape.norm_eps)
        heads = self._qkv(normed, context.adapter).view(batch, num_tokens, -1, shape.head_dim)
        num_rotated = shape.num_heads + shape.num_kv_heads
        rotate_in_place(heads[:, :, :num_rotated], context.cos, context.sin)
        keys, values = kv.write(kv_index, heads[:, :, shape.num_heads :])
        return self._attention_out(
            attend(heads[:, :, : shape.num_heads], keys, values, context.mask), context.adapter
        )

    def _mlp(self, hidden: Tensor, adapter: BlockAdapter | None) -> Tensor:
        normed = rms_norm(hidden, self._mlp_norm, self._shape.norm_eps)
        gate, up = self._gate_up(normed, adapter).chunk(2, -1)
        return self._down(silu(gate).mul_(up), adapter)


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return the RMS norm, computed in float32 and rounded before the weight, as transformers."""
    exact = hidden.float()
    squares = (exact * exact).sum(-1, keepdim=True)
    scale = squares.div_(hidden.shape[-1]).add_(eps).rsqrt_()  # in place: a third less time
    return weight * (exact * scale).to(hidden.dtype)
