"""The Falcon family: RW, 7B, and the new decoder of 11B, 40B and 180B."""

from swarm_protocol.errors import CheckpointError
from swarm_server.engine.alibi import Alibi
from swarm_server.engine.attention import Attention, AttentionShape
from swarm_server.engine.decoder_block import BlockParts, BlockShape, DecoderBlock, ParallelBlock
from swarm_server.engine.feed_forward import PlainMLP
from swarm_server.engine.norms import LayerNorm
from swarm_server.loading.architecture import Config
from swarm_server.loading.block_tensors import BlockTensors
from swarm_server.loading.config import read_activation, read_count, read_flag, read_number
from swarm_server.loading.fused_qkv import fused_qkv_order
from swarm_server.loading.layer_norm import load_layer_norm
from swarm_server.loading.rope import read_rope


class Falcon:
    """Models whose `model_type` is `falcon`; see `Architecture`."""

    prefixes = ("transformer.h.", "h.")

    def __init__(self, config: Config) -> None:
        """Read the config. Raises CheckpointError."""
        self.num_blocks = read_count(config, "num_hidden_layers")
        self._hidden_size = read_count(config, "hidden_size")
        self._inner_size = read_count(config, "ffn_hidden_size", 4 * self._hidden_size)
        self._has_bias = read_flag(config, "bias")
        self._norm_eps = read_number(config, "layer_norm_epsilon", 1e-5)
        self._activation = read_activation(config, "activation", "gelu")
        self._is_parallel = read_flag(config, "parallel_attn", default=True)
        self._num_norms = _read_num_norms(config, is_parallel=self._is_parallel)
        self._attention = _read_attention(config, self._hidden_size)
        self.shape = BlockShape(
            self._hidden_size, self._attention.num_kv_heads, self._attention.head_dim
        )

    def load_block(self, tensors: BlockTensors, index: int) -> DecoderBlock | ParallelBlock:
        """Return a block with its weights. Raises CheckpointError."""
        attention_norm, mlp_norm = self._load_norms(tensors)
        hidden, inner, has_bias = self._hidden_size, self._inner_size, self._has_bias
        up = tensors.linear("up", {"mlp.dense_h_to_4h": inner}, hidden, has_bias=has_bias)
        down = tensors.linear("down", {"mlp.dense_4h_to_h": hidden}, inner, has_bias=has_bias)
        parts = BlockParts(
            attention_norm=attention_norm,
            attention=self._load_attention(tensors),
            mlp_norm=mlp_norm,
            mlp=PlainMLP(up, down, self._activation),
        )
        return ParallelBlock(parts) if self._is_parallel else DecoderBlock(parts)

    def _load_norms(self, tensors: BlockTensors) -> tuple[LayerNorm, LayerNorm]:
        """Return the norms before attention and MLP: the same one where they share it."""
        names = ["input_layernorm"]
        if not self._is_parallel:
            names = ["input_layernorm", "post_attention_layernorm"]
        elif self._num_norms == 2:
            names = ["ln_attn", "ln_mlp"]
        norms = [
            load_layer_norm(tensors, name, self._hidden_size, self._norm_eps) for name in names
        ]
        return norms[0], norms[-1]

    def _load_attention(self, tensors: BlockTensors) -> Attention:
        hidden, shape = self._hidden_size, self._attention
        num_outputs = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
        qkv = tensors.linear(
            "qkv",
            {"self_attention.query_key_value": num_outputs},
            hidden,
            has_bias=self._has_bias,
            order=fused_qkv_order(shape.num_heads, shape.num_kv_heads, shape.head_dim),
        )
        out_parts = {"self_attention.dense": hidden}
        out = tensors.linear("attention_out", out_parts, hidden, has_bias=self._has_bias)
        return Attention(shape, qkv, out)


def _read_num_norms(config: Config, *, is_parallel: bool) -> int:
    """Return how many norms stand before attention and MLP of a parallel block.

    Raises:
        CheckpointError: a combination of fields that no Falcon has.
    """
    is_new = read_flag(config, "new_decoder_architecture")
    num_norms = read_count(config, "num_ln_in_parallel_attn", 2 if is_new else 1)
    if (is_new and not is_parallel) or num_norms > 1 + is_new:
        raise CheckpointError(
            f"config.json: new_decoder_architecture {is_new} with parallel_attn {is_parallel} and "
            f"num_ln_in_parallel_attn {num_norms} is not served"
        )
    return num_norms


def _read_attention(config: Config, hidden_size: int) -> AttentionShape:
    num_heads = read_count(config, "num_attention_heads")
    if read_flag(config, "new_decoder_architecture"):
        num_kv_heads = read_count(config, "num_kv_heads", num_heads)
    else:
        num_kv_heads = 1 if read_flag(config, "multi_query", default=True) else num_heads
    head_dim, rest = divmod(hidden_size, num_heads)
    if rest or head_dim % 2 or num_heads % num_kv_heads:
        raise CheckpointError(
            f"config.json: {num_heads} heads and {num_kv_heads} KV heads do not share a "
            f"hidden_size of {hidden_size}"
        )
    if read_flag(config, "alibi"):
        alibi = Alibi(num_heads, scale=head_dim**-0.5, is_rounded=True)
        return AttentionShape(num_heads, num_kv_heads, head_dim, alibi=alibi)
    return AttentionShape(num_heads, num_kv_heads, head_dim, read_rope(config))
