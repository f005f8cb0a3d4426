"""Which families of models can be served. A new family is one module and one line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from swarm_protocol.checkpoint import Checkpoint, HubSettings
from swarm_protocol.errors import CheckpointError, UnsupportedModelError
from swarm_protocol.identifiers import MAX_BLOCKS
from swarm_server.engine.decoder_block import BlockShape
from swarm_server.loading.architecture import Architecture, Config
from swarm_server.loading.bloom import Bloom
from swarm_server.loading.falcon import Falcon
from swarm_server.loading.gemma3 import Gemma3, NestedGemma3
from swarm_server.loading.llama import Llama
from swarm_server.loading.mistral import Mistral
from swarm_server.loading.mixtral import Mixtral
from swarm_server.loading.qwen3 import Qwen3

FAMILIES: Final[Mapping[str, Callable[[Config], Architecture]]] = MappingProxyType(
    {
        "bloom": Bloom,
        "falcon": Falcon,
        "gemma3": NestedGemma3,
        "gemma3_text": Gemma3,
        "llama": Llama,
        "mistral": Mistral,
        "mixtral": Mixtral,
        "qwen3": Qwen3,
    }
)
"""By `model_type`. A family raises CheckpointError for a config that the engine cannot compute."""


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model whose config is read and whose weights are not."""

    checkpoint: Checkpoint
    architecture: Architecture

    @property
    def num_blocks(self) -> int:
        """How many blocks the model has."""
        return self.architecture.num_blocks

    @property
    def shape(self) -> BlockShape:
        """What a span must know of the blocks."""
        return self.architecture.shape


def open_model(
    source: str, *, revision: str | None = None, hub: HubSettings | None = None
) -> OpenModel:
    """Read the config of a directory or hub repository.

    Raises:
        UnsupportedModelError: its `model_type` has no family here; names those that have.
        CheckpointError: there is no such model, or its config is bad.
    """
    checkpoint = Checkpoint.open(source, revision=revision, hub=hub or HubSettings())
    if checkpoint.model_type not in FAMILIES:
        raise UnsupportedModelError(
            checkpoint.model_type, tuple(FAMILIES), ships_code=checkpoint.ships_code
        )
    if checkpoint.config.get("quantization_config"):
        raise CheckpointError("config.json: quantized checkpoints are not served")
    architecture = FAMILIES[checkpoint.model_type](checkpoint.config)
    if architecture.num_blocks > MAX_BLOCKS:
        raise CheckpointError(
            f"config.json: {architecture.num_blocks} blocks are over the limit of {MAX_BLOCKS}"
        )
    return OpenModel(checkpoint, architecture)
