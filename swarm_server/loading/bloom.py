"""The BLOOM family, with BLOOMZ: ALiBi, layer norms and biases everywhere."""

from swarm_protocol.errors import CheckpointError
from swarm_server.engine.alibi import Alibi
from swarm_server.engine.attention import Attention, AttentionShape
from swarm_server.engine.decoder_block import (
    BlockParts,
    BlockShape,
    DecoderBlock,
    NormedResidualBlock,
)
from swarm_server.engine.feed_forward import PlainMLP, gelu_tanh
from swarm_server.loading.architecture import Config
from swarm_server.loading.block_tensors import BlockTensors
from swarm_server.loading.config import read_flag, read_number, read_renamed_count
from swarm_server.loading.fused_qkv import fused_qkv_order
from swarm_server.loading.layer_norm import load_layer_norm


class Bloom:
    """Models whose `model_type` is `bloom`; see `Architecture`."""

    prefixes = ("transformer.h.", "h.")

    def __init__(self, config: Config) -> None:
        """Read the config. Raises CheckpointError."""
        self.num_blocks = read_renamed_count(config, "n_layer", "num_hidden_layers")
        self._hidden_size = read_renamed_count(config, "n_embed", "hidden_size")
        num_heads = read_renamed_count(config, "n_head", "num_attention_heads")
        if self._hidden_size % num_heads:
            raise CheckpointError(
                f"config.json: {num_heads} heads do not share a hidden_size of {self._hidden_size}"
            )
        head_dim = self._hidden_size // num_heads
        self._attention = AttentionShape(num_heads, num_heads, head_dim, alibi=Alibi(num_heads))
        self._norm_eps = read_number(config, "layer_norm_epsilon", 1e-5)
        has_normed_residual = read_flag(config, "apply_residual_connection_post_layernorm")
        self._block = NormedResidualBlock if has_normed_residual else DecoderBlock
        self.shape = BlockShape(self._hidden_size, num_heads, head_dim)

    def load_block(self, tensors: BlockTensors, index: int) -> DecoderBlock | NormedResidualBlock:
        """Return a block with its weights. Raises CheckpointError."""
        hidden, eps = self._hidden_size, self._norm_eps
        return self._block(
            BlockParts(
                attention_norm=load_layer_norm(tensors, "input_layernorm", hidden, eps),
                attention=self._load_attention(tensors),
                mlp_norm=load_layer_norm(tensors, "post_attention_layernorm", hidden, eps),
                mlp=PlainMLP(
                    tensors.linear("up", {"mlp.dense_h_to_4h": 4 * hidden}, hidden, has_bias=True),
                    tensors.linear(
                        "down", {"mlp.dense_4h_to_h": hidden}, 4 * hidden, has_bias=True
                    ),
                    gelu_tanh,
                ),
            )
        )

    def _load_attention(self, tensors: BlockTensors) -> Attention:
        hidden, shape = self._hidden_size, self._attention
        qkv = tensors.linear(
            "qkv",
            {"self_attention.query_key_value": 3 * hidden},
            hidden,
            has_bias=True,
            order=fused_qkv_order(shape.num_heads, shape.num_kv_heads, shape.head_dim),
        )
        out_parts = {"self_attention.dense": hidden}
        return Attention(
            shape, qkv, tensors.linear("attention_out", out_parts, hidden, has_bias=True)
        )
