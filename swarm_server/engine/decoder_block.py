"""One transformer layer of the Llama kind, written for speed.

Pre-norm (RMS), grouped-query attention with rotary positions, gated SiLU MLP. Other families of
this kind need only a module in `loading` that says how their tensors are called.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from swarm_server.engine.attention import ChunkContext, attend
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
        self._shape = shape
        self._weights = weights

    def run(self, hidden: Tensor, kv: KVWriter, kv_index: int, context: ChunkContext) -> Tensor:
        """Return the hidden states after this block, [batch, num_tokens, hidden_size]."""
        hidden = hidden + self._attention(hidden, kv, kv_index, context)
        return hidden + self._mlp(hidden)

    def _attention(
        self, hidden: Tensor, kv: KVWriter, kv_index: int, context: ChunkContext
    ) -> Tensor:
        shape, weights = self._shape, self._weights
        batch, num_tokens, _ = hidden.shape
        normed = rms_norm(hidden, weights.attention_norm, shape.norm_eps)
        heads = linear(normed, weights.qkv, weights.qkv_bias)
        heads = heads.view(batch, num_tokens, -1, shape.head_dim)
        rotate_in_place(
            heads[:, :, : shape.num_heads + shape.num_kv_heads], context.cos, context.sin
        )
        keys, values = kv.write(kv_index, heads[:, :, shape.num_heads :])
        outputs = attend(heads[:, :, : shape.num_heads], keys, values, context.mask)
        return linear(outputs, weights.attention_out, weights.attention_out_bias)

    def _mlp(self, hidden: Tensor) -> Tensor:
        weights = self._weights
        normed = rms_norm(hidden, weights.mlp_norm, self._shape.norm_eps)
        gate, up = linear(normed, weights.gate_up, weights.gate_up_bias).chunk(2, -1)
        return linear(silu(gate).mul_(up), weights.down, weights.down_bias)


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return the RMS norm, computed in float32 and rounded before the weight, as transformers."""
    exact = hidden.float()
    scale = torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + eps)
    return weight * (exact * scale).to(hidden.dtype)
