"""The Llama family: 1, 2 and 3.x."""

from swarm_server.engine.decoder_block import BlockParts, DecoderBlock
from swarm_server.loading.architecture import Config
from swarm_server.loading.block_tensors import BlockTensors
from swarm_server.loading.config import read_activation, read_flag
from swarm_server.loading.llama_parts import (
    PREFIXES,
    load_attention,
    load_gated_mlp,
    load_rms_norm,
    read_sizes,
)
from swarm_server.loading.rope import read_rope


class Llama:
    """Models whose `model_type` is `llama`; see `Architecture`."""

    prefixes = PREFIXES

    def __init__(self, config: Config) -> None:
        """Read the config. Raises CheckpointError."""
        self._sizes = read_sizes(config)
        self._attention = self._sizes.attention(read_rope(config))
        self._activation = read_activation(config, "hidden_act", "silu")
        self._has_attention_bias = read_flag(config, "attention_bias")
        self._has_mlp_bias = read_flag(config, "mlp_bias")
        self.num_blocks = self._sizes.num_blocks
        self.shape = self._sizes.block_shape

    def load_block(self, tensors: BlockTensors, index: int) -> DecoderBlock:
        """Return a block with its weights. Raises CheckpointError."""
        sizes = self._sizes
        return DecoderBlock(
            BlockParts(
                attention_norm=load_rms_norm(tensors, sizes, "input_layernorm"),
                attention=load_attention(
                    tensors, sizes, self._attention, has_bias=self._has_attention_bias
                ),
                mlp_norm=load_rms_norm(tensors, sizes, "post_attention_layernorm"),
                mlp=load_gated_mlp(tensors, sizes, self._activation, has_bias=self._has_mlp_bias),
            )
        )
