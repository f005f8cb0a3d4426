"""The Qwen3 family: Llama with normed queries and keys, and windows in the upper blocks if any."""

from swarm_server.engine.decoder_block import DecoderBlock
from swarm_server.engine.norms import RMSNorm
from swarm_server.loading.architecture import Config
from swarm_server.loading.block_tensors import BlockTensors
from swarm_server.loading.config import (
    read_activation,
    read_count,
    read_flag,
    read_sliding_blocks,
    read_window,
)
from swarm_server.loading.llama_parts import (
    PREFIXES,
    load_attention,
    load_decoder_block,
    load_gated_mlp,
    read_qk_weight,
    read_sizes,
)
from swarm_server.loading.rope import read_rope


class Qwen3:
    """Models whose `model_type` is `qwen3`; see `Architecture`."""

    prefixes = PREFIXES

    def __init__(self, config: Config) -> None:
        """Read the config. Raises CheckpointError."""
        self._sizes = read_sizes(config, head_dim=128)
        self.num_blocks = self._sizes.num_blocks
        self.shape = self._sizes.block_shape
        self._rope = read_rope(config)
        self._window = (
            read_window(config, 4096) if read_flag(config, "use_sliding_window") else None
        )
        first = read_count(config, "max_window_layers", 28, least=0)
        self._is_sliding = read_sliding_blocks(
            config, [index >= first for index in range(self.num_blocks)]
        )
        self._activation = read_activation(config, "hidden_act", "silu")
        self._has_bias = read_flag(config, "attention_bias")

    def load_block(self, tensors: BlockTensors, index: int) -> DecoderBlock:
        """Return a block with its weights. Raises CheckpointError."""
        sizes = self._sizes
        window = self._window if self._is_sliding[index] else None
        attention = load_attention(
            tensors,
            sizes,
            sizes.attention(self._rope, window=window),
            has_bias=self._has_bias,
            qk_norm=RMSNorm(read_qk_weight(tensors, sizes), sizes.norm_eps),
        )
        mlp = load_gated_mlp(tensors, sizes, self._activation)
        return load_decoder_block(tensors, sizes, attention, mlp)
