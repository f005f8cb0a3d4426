"""Which families of models can be served. A new family is one module and one line here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from swarm_protocol.checkpoint import Checkpoint, HubSettings
from swarm_protocol.errors import CheckpointError, UnsupportedModelError
from swarm_protocol.identifiers import MAX_BLOCKS
from swarm_server.engine.decoder_block import BlockShape
from swarm_server.engine.span import Block
from swarm_server.loading.config import read_count
from swarm_server.loading.llama import LlamaFamily


class Family(Protocol):
    """How the models of one `model_type` are read."""

    model_type: str

    def shape(self, config: Mapping[str, Any]) -> BlockShape:
        """Return the sizes in a config.json.

        Raises:
            CheckpointError: a field is bad, or asks for what the engine does not compute.
        """

    def load_block(
        self,
        checkpoint: Checkpoint,
        shape: BlockShape,
        index: int,
        *,
        dtype: torch.dtype,
        device: str,
    ) -> Block:
        """Read one block, and nothing else, from the checkpoint.

        Raises:
            CheckpointError: a parameter is missing or has a wrong shape.
        """


FAMILIES: tuple[Family, ...] = (LlamaFamily(),)


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model whose config is read and whose weights are not."""

    checkpoint: Checkpoint
    family: Family
    shape: BlockShape
    num_blocks: int


def open_model(
    source: str, *, revision: str | None = None, hub: HubSettings | None = None
) -> OpenModel:
    """Read the config of a directory or hub repository.

    Raises:
        UnsupportedModelError: its `model_type` has no family here.
        CheckpointError: there is no such model, or its config is bad.
    """
    checkpoint = Checkpoint.open(source, revision=revision, hub=hub or HubSettings())
    for family in FAMILIES:
        if family.model_type == checkpoint.model_type:
            num_blocks = read_count(checkpoint.config, "num_hidden_layers")
            if num_blocks > MAX_BLOCKS:
                raise CheckpointError(
                    f"config.json: {num_blocks} blocks are over the limit of {MAX_BLOCKS}"
                )
            return OpenModel(checkpoint, family, family.shape(checkpoint.config), num_blocks)
    raise UnsupportedModelError(
        checkpoint.model_type,
        [family.model_type for family in FAMILIES],
        ships_code=checkpoint.ships_code,
    )
