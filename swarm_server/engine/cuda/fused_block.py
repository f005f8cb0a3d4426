"""A block of the Llama kind as few kernels: ten, or six for a lone row; four are products."""

from dataclasses import dataclass

from torch import Tensor

from swarm_server.engine.cuda.attention import Heads, Rows, RowsAttention
from swarm_server.engine.cuda.products import add_product, gate_normed, multiply_normed


@dataclass(frozen=True, slots=True)
class FusedBlock:
    """Weights of one block, [num_outputs, num_inputs], on the GPU.

    `qkv` is queries, then keys, then values; `gate_up` the gate, then the factor it opens, with
    SiLU. Norms are RMS norms before attention and before the MLP.
    """

    heads: Heads
    norm_eps: float
    attention_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor

    def run(self, hidden: Tensor, rows: Rows, pages: Tensor, attention: RowsAttention) -> None:
        """Put rows through the block, in place; their keys and values go into their pages.

        Args:
            hidden: [num_rows, hidden_size], overwritten.
            rows: where they stand.
            pages: of this block.
            attention: made for these rows.
        """
        qkv = multiply_normed(hidden, self.attention_norm, self.norm_eps, self.qkv, self.qkv_bias)
        attended = attention.attend(qkv, pages, rows, self.heads)
        add_product(hidden, attended, self.out)
        gated = gate_normed(hidden, self.mlp_norm, self.norm_eps, self.gate_up, self.gate_up_bias)
        add_product(hidden, gated, self.down)
