"""Which families of models the client knows. A new family is one module and one line here."""

from typing import Final

import torch

from swarm_client.models.bloom import BLOOM
from swarm_client.models.facts import ModelFacts
from swarm_client.models.falcon import FALCON
from swarm_client.models.family import Family
from swarm_client.models.gemma3 import GEMMA3
from swarm_client.models.llama import LLAMA
from swarm_client.models.local_parts import LocalParts
from swarm_client.models.mistral import MISTRAL
from swarm_client.models.mixtral import MIXTRAL
from swarm_client.models.qwen3 import QWEN3
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import UnsupportedModelError
from swarm_protocol.identifiers import check_dht_prefix, derive_dht_prefix

FAMILIES: Final[tuple[Family, ...]] = (BLOOM, FALCON, GEMMA3, LLAMA, MISTRAL, MIXTRAL, QWEN3)


def find_family(checkpoint: Checkpoint) -> Family:
    """Return the family of a model.

    Raises:
        UnsupportedModelError: no module for the architecture; names those there are.
    """
    for family in FAMILIES:
        if checkpoint.model_type in family.model_types:
            return family
    known = [model_type for family in FAMILIES for model_type in family.model_types]
    raise UnsupportedModelError(checkpoint.model_type, known, ships_code=checkpoint.ships_code)


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
    family = find_family(checkpoint)
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
    return find_family(checkpoint).load_parts(checkpoint, facts, dtype=dtype, device=device)
