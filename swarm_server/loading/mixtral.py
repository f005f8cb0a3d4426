"""The Mixtral family: Mistral whose MLP is a mixture of experts."""

from swarm_protocol.errors import CheckpointError
from swarm_server.engine.adaptable_linear import AdaptableLinear
from swarm_server.engine.decoder_block import DecoderBlock
from swarm_server.engine.feed_forward import GatedMLP, MixtureOfExperts
from swarm_server.engine.linear import make_linear
from swarm_server.loading.architecture import Config
from swarm_server.loading.block_tensors import BlockTensors
from swarm_server.loading.config import read_activation, read_count, read_window
from swarm_server.loading.llama_parts import (
    PREFIXES,
    load_attention,
    load_decoder_block,
    read_sizes,
)
from swarm_server.loading.rope import read_rope


class Mixtral:
    """Models whose `model_type` is `mixtral`; see `Architecture`."""

    prefixes = PREFIXES

    def __init__(self, config: Config) -> None:
        """Read the config. Raises CheckpointError."""
        self._sizes = read_sizes(config, norm_eps=1e-5)
        rope = read_rope(config, default_theta=1e6)
        self._attention = self._sizes.attention(rope, window=read_window(config))
        self._activation = read_activation(config, "hidden_act", "silu")
        self._num_experts = read_count(config, "num_local_experts", 8)
        self._top_k = read_count(config, "num_experts_per_tok", 2)
        if self._top_k > self._num_experts:
            raise CheckpointError(
                f"config.json: num_experts_per_tok {self._top_k} of {self._num_experts} experts"
            )
        self.num_blocks = self._sizes.num_blocks
        self.shape = self._sizes.block_shape

    def load_block(self, tensors: BlockTensors, index: int) -> DecoderBlock:
        """Return a block with its weights. Raises CheckpointError."""
        attention = load_attention(tensors, self._sizes, self._attention)
        return load_decoder_block(tensors, self._sizes, attention, self._load_mixture(tensors))

    def _load_mixture(self, tensors: BlockTensors) -> MixtureOfExperts:
        """Read either layout: a module per expert, as on the hub, or all of them stacked."""
        is_stacked = tensors.has("mlp.experts.gate_up_proj")
        name = "mlp.gate" if is_stacked else "block_sparse_moe.gate"
        router = tensors.linear("router", {name: self._num_experts}, self._sizes.hidden_size)
        experts = self._read_stacked(tensors) if is_stacked else self._read_modules(tensors)
        return MixtureOfExperts(router, experts, self._top_k)

    def _read_modules(self, tensors: BlockTensors) -> list[GatedMLP]:
        hidden, inner = self._sizes.hidden_size, self._sizes.intermediate_size
        experts = []
        for index in range(self._num_experts):
            prefix = f"block_sparse_moe.experts.{index}"
            gate_up = tensors.linear(
                f"experts.{index}.gate_up", {f"{prefix}.w1": inner, f"{prefix}.w3": inner}, hidden
            )
            down = tensors.linear(f"experts.{index}.down", {f"{prefix}.w2": hidden}, inner)
            experts.append(GatedMLP(gate_up, down, self._activation))
        return experts

    def _read_stacked(self, tensors: BlockTensors) -> list[GatedMLP]:
        hidden, inner = self._sizes.hidden_size, self._sizes.intermediate_size
        gate_up = tensors.read("mlp.experts.gate_up_proj", self._num_experts, 2 * inner, hidden)
        down = tensors.read("mlp.experts.down_proj", self._num_experts, hidden, inner)
        return [
            GatedMLP(
                AdaptableLinear(f"experts.{index}.gate_up", make_linear(gate_up[index])),
                AdaptableLinear(f"experts.{index}.down", make_linear(down[index])),
                self._activation,
            )
            for index in range(self._num_experts)
        ]
