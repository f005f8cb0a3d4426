"""The Mistral family: Llama whose tokens look back over a window."""

from swarm_server.engine.decoder_block import BlockParts, DecoderBlock
from swarm_server.loading.architecture import Config
from swarm_server.loading.block_tensors import BlockTensors
from swarm_server.loading.config import read_activation, read_window
from swarm_server.loading.llama_parts import (
    PREFIXES,
    load_attention,
    load_gated_mlp,
    load_rms_norm,
    read_sizes,
)
from swarm_server.loading.rope import read_rope


class Mistral:
    """Models whose `model_type` is `mistral`; see `Architecture`."""

    prefixes = PREFIXES

    def __init__(self, config: Config) -> None:
        """Read the config. Raises CheckpointError."""
        self._sizes = read_sizes(config)
        window = read_window(config, 4096)
        self._attention = self._sizes.attention(read_rope(config), window=window)
        self._activation = read_activation(config, "hidden_act", "silu")
        self.num_blocks = self._sizes.num_blocks
        self.shape = self._sizes.block_shape

    def load_block(self, tensors: BlockTensors, index: int) -> DecoderBlock:
        """Return a block with its weights. Raises CheckpointError."""
        sizes = self._sizes
        return DecoderBlock(
            BlockParts(
                attention_norm=load_rms_norm(tensors, sizes, "input_layernorm"),
                attention=load_attention(tensors, sizes, self._attention),
                mlp_norm=load_rms_norm(tensors, sizes, "post_attention_layernorm"),
                mlp=load_gated_mlp(tensors, sizes, self._activation),
            )
        )
