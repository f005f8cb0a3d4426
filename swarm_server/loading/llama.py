"""The Llama family: 1, 2 and 3.x."""

from swarm_server.engine.decoder_block import DecoderBlock
from swarm_server.loading.architecture import Config
from swarm_server.loading.block_tensors import BlockTensors
from swarm_server.loading.config import read_activation, read_flag
from swarm_server.loading.llama_parts import (
    PREFIXES,
    load_attention,
    load_decoder_block,
    load_gated_mlp,
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
        attention = load_attention(
            tensors, sizes, self._attention, has_bias=self._has_attention_bias
        )
        mlp = load_gated_mlp(tensors, sizes, self._activation, has_bias=self._has_mlp_bias)
        return load_decoder_block(tensors, sizes, attention, mlp)
