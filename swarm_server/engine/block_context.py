"""What a block is told about the tokens that it gets, and the attention that it asks of others.

Blocks know hidden states [num_tokens, hidden_size]; whose tokens those are is known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from swarm_server.engine.adaptable_linear import AdapterRows
from swarm_server.engine.alibi import Alibi
from swarm_server.engine.positions import BatchPositions


@dataclass(frozen=True, slots=True)
class Scoring:
    """How queries are compared with keys.

    Scores are multiplied by `scale`. With a `window` a token sees itself and the `window - 1`
    before it, else all before it; `alibi` adds a bias to each score.
    """

    scale: float
    window: int | None = None
    alibi: Alibi | None = None


class BlockAttention(Protocol):
    """Attention of one block's tokens, each over the keys and values of its own sequence."""

    def attend(self, queries: Tensor, keys_values: Tensor, scoring: Scoring) -> Tensor:
        """Keep keys and values, and return what queries find in all that are kept.

        Args:
            queries: [num_tokens, num_heads, head_dim], rotated; the heads of a token lie together,
                tokens may lie apart.
            keys_values: [num_tokens, 2 * num_kv_heads, head_dim], keys first, rotated; likewise.
            scoring: of this block.

        Returns:
            [num_tokens, num_heads * head_dim].
        """


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What goes with hidden states into one block.

    `adapters` are this block's parts of them. With `wanted`, int64 [num_wanted], there are none,
    and outputs are of these tokens only: keys and values of the others are all that they give.
    """

    positions: BatchPositions
    attention: BlockAttention
    adapters: Sequence[AdapterRows] = ()
    wanted: Tensor | None = None

    def wanted_of(self, rows: Tensor) -> Tensor:
        """Return the rows of the tokens whose outputs are wanted."""
        return rows if self.wanted is None else rows[self.wanted]
