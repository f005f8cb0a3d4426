"""What Llama and its kin have in common: sizes in the config, and tensors of the same names."""

from dataclasses import dataclass

import torch
from torch import Tensor

from swarm_protocol.errors import CheckpointError
from swarm_server.engine.attention import Attention, AttentionShape
from swarm_server.engine.decoder_block import BlockParts, BlockShape, DecoderBlock
from swarm_server.engine.feed_forward import Activation, FeedForward, GatedMLP
from swarm_server.engine.norms import Norm, RMSNorm
from swarm_server.engine.rope import Rope
from swarm_server.loading.architecture import Config
from swarm_server.loading.block_tensors import BlockTensors
from swarm_server.loading.config import read_count, read_number

PREFIXES = ("model.layers.", "layers.")


@dataclass(frozen=True, slots=True)
class LlamaSizes:
    """Sizes of a model; all blocks have the same."""

    num_blocks: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float

    @property
    def block_shape(self) -> BlockShape:
        """What a span must know of the blocks."""
        return BlockShape(self.hidden_size, self.num_kv_heads, self.head_dim)

    def attention(
        self, rope: Rope, *, window: int | None = None, scale: float | None = None
    ) -> AttentionShape:
        """Return the shape of a block's attention."""
        return AttentionShape(
            self.num_heads, self.num_kv_heads, self.head_dim, rope, window=window, scale=scale
        )


def read_sizes(
    config: Config, *, head_dim: int | None = None, norm_eps: float = 1e-6
) -> LlamaSizes:
    """Return the sizes in a config.

    Args:
        config: to read.
        head_dim: the family's default; None is a head's fair share.
        norm_eps: the family's default.

    Raises:
        CheckpointError: one is missing or bad, or heads cannot share KV heads.
    """
    hidden_size = read_count(config, "hidden_size")
    num_heads = read_count(config, "num_attention_heads")
    num_kv_heads = read_count(config, "num_key_value_heads", num_heads)
    head_dim = read_count(config, "head_dim", head_dim or max(1, hidden_size // num_heads))
    if num_heads % num_kv_heads or head_dim % 2:
        raise CheckpointError(
            f"config.json: {num_heads} heads of {head_dim} do not share {num_kv_heads} KV heads"
        )
    return LlamaSizes(
        num_blocks=read_count(config, "num_hidden_layers"),
        hidden_size=hidden_size,
        intermediate_size=read_count(config, "intermediate_size"),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        norm_eps=read_number(config, "rms_norm_eps", norm_eps),
    )


def load_decoder_block(
    tensors: BlockTensors, sizes: LlamaSizes, attention: Attention, mlp: FeedForward
) -> DecoderBlock:
    """Return a block of these parts, with its two norms. Raises CheckpointError."""
    return DecoderBlock(
        BlockParts(
            attention_norm=load_rms_norm(tensors, sizes, "input_layernorm"),
            attention=attention,
            mlp_norm=load_rms_norm(tensors, sizes, "post_attention_layernorm"),
            mlp=mlp,
        )
    )


def load_rms_norm(tensors: BlockTensors, sizes: LlamaSizes, name: str) -> RMSNorm:
    """Return the norm of the hidden states called `name`. Raises CheckpointError."""
    return RMSNorm(tensors.read(f"{name}.weight", sizes.hidden_size), sizes.norm_eps)


def read_qk_weight(tensors: BlockTensors, sizes: LlamaSizes) -> Tensor:
    """Return the weights of the query norm and the key norm as `Attention` wants them: one row
    for each query head, then one for each key head. Raises CheckpointError.
    """
    query = tensors.read("self_attn.q_norm.weight", sizes.head_dim)
    key = tensors.read("self_attn.k_norm.weight", sizes.head_dim)
    return torch.cat((query.expand(sizes.num_heads, -1), key.expand(sizes.num_kv_heads, -1)))


def load_attention(
    tensors: BlockTensors,
    sizes: LlamaSizes,
    shape: AttentionShape,
    *,
    has_bias: bool = False,
    qk_norm: Norm | None = None,
) -> Attention:
    """Return the attention of a block. Raises CheckpointError."""
    query, key = sizes.num_heads * sizes.head_dim, sizes.num_kv_heads * sizes.head_dim
    parts = {"self_attn.q_proj": query, "self_attn.k_proj": key, "self_attn.v_proj": key}
    qkv = tensors.linear("qkv", parts, sizes.hidden_size, has_bias=has_bias)
    out_parts = {"self_attn.o_proj": sizes.hidden_size}
    out = tensors.linear("attention_out", out_parts, query, has_bias=has_bias)
    return Attention(shape, qkv, out, qk_norm=qk_norm)


def load_gated_mlp(
    tensors: BlockTensors, sizes: LlamaSizes, activation: Activation, *, has_bias: bool = False
) -> GatedMLP:
    """Return the gated MLP of a block. Raises CheckpointError."""
    inner = sizes.intermediate_size
    parts = {"mlp.gate_proj": inner, "mlp.up_proj": inner}
    gate_up = tensors.linear("gate_up", parts, sizes.hidden_size, has_bias=has_bias)
    out_parts = {"mlp.down_proj": sizes.hidden_size}
    down = tensors.linear("down", out_parts, inner, has_bias=has_bias)
    return GatedMLP(gate_up, down, activation)
