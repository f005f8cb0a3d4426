"""The Gemma 3 family, text only: norms on both sides, windowed and global blocks with two ropes."""

from swarm_protocol.errors import CheckpointError
from swarm_server.engine.decoder_block import BlockParts, SandwichBlock
from swarm_server.engine.norms import OffsetRMSNorm
from swarm_server.engine.rope import Rope
from swarm_server.loading.architecture import Config
from swarm_server.loading.block_tensors import BlockTensors
from swarm_server.loading.config import (
    read_activation,
    read_count,
    read_flag,
    read_number,
    read_sliding_blocks,
    read_window,
)
from swarm_server.loading.llama_parts import (
    PREFIXES,
    load_attention,
    load_gated_mlp,
    read_qk_weight,
    read_sizes,
)
from swarm_server.loading.rope import read_rope

_GLOBAL_THETA, _LOCAL_THETA = 1e6, 1e4
_NESTED_DEFAULTS = {
    "num_hidden_layers": 26,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
"""What configs of models that also see leave out where it equals transformers' defaults."""


class Gemma3:
    """Models whose `model_type` is `gemma3_text`; see `Architecture`."""

    prefixes: tuple[str, ...] = PREFIXES

    def __init__(self, config: Config) -> None:
        """Read the config. Raises CheckpointError."""
        if config.get("attn_logit_softcapping") is not None:
            raise CheckpointError("config.json: attn_logit_softcapping is not served")
        if read_flag(config, "use_bidirectional_attention"):
            raise CheckpointError("config.json: use_bidirectional_attention is not served")
        self._sizes = read_sizes(config, head_dim=256)
        self.num_blocks = self._sizes.num_blocks
        self.shape = self._sizes.block_shape
        scale = read_number(config, "query_pre_attn_scalar", 256) ** -0.5
        local, everywhere = read_ropes(config)
        self._sliding = self._sizes.attention(local, window=read_window(config, 4096), scale=scale)
        self._full = self._sizes.attention(everywhere, scale=scale)
        self._is_sliding = read_sliding_blocks(config, _pattern(config, self.num_blocks))
        self._activation = read_activation(config, "hidden_activation", "gelu_pytorch_tanh")
        self._has_bias = read_flag(config, "attention_bias")

    def load_block(self, tensors: BlockTensors, index: int) -> SandwichBlock:
        """Return a block with its weights. Raises CheckpointError."""
        sizes = self._sizes

        def norm(name: str) -> OffsetRMSNorm:
            return OffsetRMSNorm(tensors.read(f"{name}.weight", sizes.hidden_size), sizes.norm_eps)

        return SandwichBlock(
            BlockParts(
                attention_norm=norm("input_layernorm"),
                attention=load_attention(
                    tensors,
                    sizes,
                    self._sliding if self._is_sliding[index] else self._full,
                    has_bias=self._has_bias,
                    qk_norm=OffsetRMSNorm(read_qk_weight(tensors, sizes), sizes.norm_eps),
                ),
                mlp_norm=norm("pre_feedforward_layernorm"),
                mlp=load_gated_mlp(tensors, sizes, self._activation),
            ),
            after_attention=norm("post_attention_layernorm"),
            after_mlp=norm("post_feedforward_layernorm"),
        )


class NestedGemma3(Gemma3):
    """The language model of one that also sees, whose `model_type` is `gemma3`."""

    prefixes = ("model.language_model.layers.", "language_model.model.layers.")

    def __init__(self, config: Config) -> None:
        """Read the config's `text_config`. Raises CheckpointError."""
        text_config = config.get("text_config")
        if not isinstance(text_config, dict):
            raise CheckpointError("config.json: text_config must be an object")
        super().__init__(_NESTED_DEFAULTS | text_config)


def read_ropes(config: Config) -> tuple[Rope, Rope]:
    """Return the ropes of windowed and of global blocks.

    New: `rope_parameters` has an object for each. Old: `rope_local_base_freq` beside `rope_theta`
    and `rope_scaling`, which is for global blocks only.
    """
    parameters = config.get("rope_parameters")
    if parameters is None:
        local = Rope(read_number(config, "rope_local_base_freq", _LOCAL_THETA))
        return local, read_rope(config, default_theta=_GLOBAL_THETA)
    if not isinstance(parameters, dict):
        raise CheckpointError("config.json: rope_parameters must be an object")
    return (
        read_rope({"rope_parameters": parameters.get("sliding_attention")}, _LOCAL_THETA),
        read_rope({"rope_parameters": parameters.get("full_attention")}, _GLOBAL_THETA),
    )


def _pattern(config: Config, num_blocks: int) -> list[bool]:
    """Return which blocks are windowed where the config has no list: all but every n-th."""
    every = read_count(
        config, "sliding_window_pattern", read_count(config, "_sliding_window_pattern", 6)
    )
    return [(index + 1) % every != 0 for index in range(num_blocks)]
