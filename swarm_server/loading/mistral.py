"""The Mistral family: Llama whose tokens look back over a window."""

from swarm_server.engine.decoder_block import DecoderBlock
from swarm_server.loading.architecture import Config
from swarm_server.loading.block_tensors import BlockTensors
from swarm_server.loading.config import read_activation, read_window
from swarm_server.loading.llama_parts import (
    PREFIXES,
    load_attention,
    load_decoder_block,
    load_gated_mlp,
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
        attention = load_attention(tensors, self._sizes, self._attention)
        mlp = load_gated_mlp(tensors, self._sizes, self._activation)
        return load_decoder_block(tensors, self._sizes, attention, mlp)
