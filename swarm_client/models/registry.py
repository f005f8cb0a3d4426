"""Which families of models the client knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

import torch

from swarm_client.models.facts import ModelFacts
from swarm_client.models.llama import load_llama_parts, read_llama_facts
from swarm_client.models.local_parts import LocalParts
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import UnsupportedModelError
from swarm_protocol.identifiers import check_dht_prefix, derive_dht_prefix


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
    """What the client must know about one architecture."""

    read_facts: FactsReader
    load_parts: PartsLoader


FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {"llama": Family(read_llama_facts, load_llama_parts)}
)


def read_facts(checkpoint: Checkpoint, *, dht_prefix: str | None = None) -> ModelFacts:
    """Return the facts of a model.

    Args:
        checkpoint: opened; only its small JSON files are read.
        dht_prefix: name under which its servers meet; derived from the source by default.

    Raises:
        UnsupportedModelError: no module for the architecture; names those there are.
        CheckpointError: config.json is not complete.
        MalformedMessageError: the prefix has a dot or white space.
    """
    family = _family(checkpoint)
    prefix = dht_prefix or derive_dht_prefix(checkpoint.source, checkpoint.model_type)
    return family.read_facts(checkpoint, check_dht_prefix(prefix))


def load_local_parts(
    checkpoint: Checkpoint, *, dtype: torch.dtype, device: str = "cpu"
) -> LocalParts:
    """Read the tensors that the client needs, and no others. Takes time: not for an event loop.

    Raises:
        UnsupportedModelError: no module for the architecture.
        CheckpointError: a tensor is missing, damaged or of a wrong shape.
    """
    facts = read_facts(checkpoint)
    return _family(checkpoint).load_parts(checkpoint, facts, dtype=dtype, device=device)


def _family(checkpoint: Checkpoint) -> Family:
    family = FAMILIES.get(checkpoint.model_type)
    if family is None:
        raise UnsupportedModelError(checkpoint.model_type, tuple(FAMILIES))
    return family
