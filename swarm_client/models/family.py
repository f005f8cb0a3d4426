"""What a module of a family offers; knows no family."""

from dataclasses import dataclass
from typing import Protocol

import torch

from swarm_client.models.facts import ModelFacts
from swarm_client.models.local_parts import LocalParts
from swarm_protocol.checkpoint import Checkpoint


class FactsReader(Protocol):
    """Reads the facts of a checkpoint of one family."""

    def __call__(self, checkpoint: Checkpoint, dht_prefix: str) -> ModelFacts:
        """Raises CheckpointError."""


class PartsLoader(Protocol):
    """Loads the local parts of a checkpoint of one family."""

    def __call__(
        self, checkpoint: Checkpoint, facts: ModelFacts, *, dtype: torch.dtype, device: str
    ) -> LocalParts:
        """Raises CheckpointError."""


@dataclass(frozen=True, slots=True)
class Family:
    """What the client must know about one architecture.

    Attributes:
        name: as in the names of its classes, e.g. `Bloom` in `DistributedBloomForCausalLM`.
        model_types: its names in config.json.
    """

    name: str
    model_types: tuple[str, ...]
    read_facts: FactsReader
    load_parts: PartsLoader
