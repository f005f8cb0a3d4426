"""Self-attention of a block: products, norms and rotations around a `BlockAttention`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from swarm_server.engine.adaptable_linear import AdaptableLinear
from swarm_server.engine.alibi import Alibi
from swarm_server.engine.block_context import BlockContext, Scoring
from swarm_server.engine.norms import Norm
from swarm_server.engine.positions import BatchPositions
from swarm_server.engine.rope import Rope, rotate, rotate_in_place


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Heads of a block, and how they know positions: by `rope` or by `alibi`.

    For `window` and `scale` see `Scoring`; a scale of None is `head_dim ** -0.5`.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope: Rope | None = None
    alibi: Alibi | None = None
    window: int | None = None
    scale: float | None = None

    @property
    def scoring(self) -> Scoring:
        """How queries are compared with keys."""
        scale = self.head_dim**-0.5 if self.scale is None else self.scale
        return Scoring(scale, self.window, self.alibi)


class Attention:
    """Self-attention of one block. Stateless but for its weights."""

    def __init__(
        self,
        shape: AttentionShape,
        qkv: AdaptableLinear,
        out: AdaptableLinear,
        *,
        qk_norm: Norm | None = None,
    ) -> None:
        """Take the parts.

        Args:
            shape: heads and positions.
            qkv: one product for all query heads, then all key heads, then all value heads.
            out: applied to the heads' outputs, [..., num_heads * head_dim].
            qk_norm: over [..., num_heads + num_kv_heads, head_dim], before rotation; only with a
                rope.
        """
        self.shape = shape
        self._scoring = shape.scoring
        self.qkv = qkv
        self.out = out
        self.qk_norm = qk_norm

    @property
    def window(self) -> int | None:
        """See `Scoring.window`."""
        return self.shape.window

    def run(self, hidden: Tensor, context: BlockContext) -> Tensor:
        """Return what is to be added to the hidden states; see `engine.span.Block.run`."""
        shape = self.shape
        heads = self.qkv(hidden, context.adapters).view(len(hidden), -1, shape.head_dim)
        heads = self._with_positions(heads, context.positions)
        queries, keys_values = heads[:, : shape.num_heads], heads[:, shape.num_heads :]
        outputs = context.attention.attend(queries, keys_values, self._scoring)
        return self.out(context.wanted_of(outputs), context.adapters)

    def _with_positions(self, heads: Tensor, positions: BatchPositions) -> Tensor:
        """Norm and rotate queries and keys; overwrites `heads` where autograd does not watch."""
        rope, num_rotated = self.shape.rope, self.shape.num_heads + self.shape.num_kv_heads
        if rope is None:
            return heads
        cos, sin = positions.rotary(rope)
        queries_keys = heads[:, :num_rotated]
        if self.qk_norm is None and not torch.is_grad_enabled():
            rotate_in_place(queries_keys, cos, sin)
            return heads
        if self.qk_norm is not None:
            queries_keys = self.qk_norm(queries_keys)
        return torch.cat((rotate(queries_keys, cos, sin), heads[:, num_rotated:]), 1)
