"""What a family's module makes of a config: a model whose blocks can be loaded."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from swarm_server.engine.decoder_block import BlockShape
from swarm_server.engine.span import Block
from swarm_server.loading.block_tensors import BlockTensors

Config: TypeAlias = Mapping[str, Any]
"""The object in config.json; every field is to be checked."""


class Architecture(Protocol):
    """The blocks of one model."""

    num_blocks: int
    shape: BlockShape

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What the names of a block's tensors may begin with, before the block's index."""

    def load_block(self, tensors: BlockTensors, index: int) -> Block:
        """Return a block with its weights.

        Raises:
            CheckpointError: a parameter is missing or has a wrong shape.
        """
