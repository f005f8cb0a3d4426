"""Falcon in all its layouts: they differ in their blocks only."""

from typing import Final

import torch

from swarm_client.models.config_fields import read_positive_int, read_positive_number
from swarm_client.models.facts import ModelFacts
from swarm_client.models.family import Family
from swarm_client.models.layers import LayerNorm, frozen_embedding, frozen_linear
from swarm_client.models.local_parts import LocalParts
from swarm_client.models.local_tensors import HEAD, LocalNames, load_local_tensors
from swarm_protocol.checkpoint import Checkpoint

_NAMES: Final = LocalNames(
    embedding="word_embeddings.weight",
    vectors=("ln_f.weight", "ln_f.bias"),
    prefixes=("transformer.",),
    is_tied=True,
)


def read_falcon_facts(checkpoint: Checkpoint, dht_prefix: str) -> ModelFacts:
    """Return the facts of a Falcon checkpoint, whose config has old and new names.

    Raises:
        CheckpointError: config.json lacks a size, or has an absurd one.
    """
    return ModelFacts.of(
        checkpoint,
        dht_prefix,
        num_blocks=read_positive_int(checkpoint, "num_hidden_layers", "n_layer"),
        hidden_size=read_positive_int(checkpoint, "n_embed", "hidden_size"),
        vocab_size=read_positive_int(checkpoint, "vocab_size"),
        # The first releases were made for 2048 and do not say so.
        max_positions=read_positive_int(checkpoint, "max_position_embeddings", default=2048),
    )


def load_falcon_parts(
    checkpoint: Checkpoint, facts: ModelFacts, *, dtype: torch.dtype, device: str
) -> LocalParts:
    """Read embedding, final LayerNorm and LM head. Raises as `load_local_tensors` does."""
    tensors = load_local_tensors(checkpoint, facts, _NAMES, dtype=dtype, device=device)
    epsilon = read_positive_number(checkpoint, "layer_norm_epsilon", default=1e-5)
    return LocalParts(
        facts,
        word_embeddings=frozen_embedding(tensors[_NAMES.embedding]),
        ln_f=LayerNorm(tensors["ln_f.weight"], tensors["ln_f.bias"], epsilon),
        lm_head=frozen_linear(tensors[HEAD]),
    )


FALCON: Final = Family("Falcon", ("falcon",), read_falcon_facts, load_falcon_parts)
