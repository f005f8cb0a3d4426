"""BLOOM and BLOOMZ: embeddings are normed before the first block, and the head is tied to them."""

from typing import Final

import torch

from swarm_client.models.config_fields import read_positive_int, read_positive_number
from swarm_client.models.facts import ModelFacts
from swarm_client.models.family import Family
from swarm_client.models.layers import LayerNorm, frozen_embedding, frozen_linear
from swarm_client.models.local_parts import LocalParts
from swarm_client.models.local_tensors import HEAD, LocalNames, load_local_tensors
from swarm_protocol.checkpoint import Checkpoint

_EMBEDDING_NORM: Final = "word_embeddings_layernorm"
_NORM: Final = "ln_f"
_NAMES: Final = LocalNames(
    embedding="word_embeddings.weight",
    vectors=tuple(
        f"{norm}.{kind}" for norm in (_EMBEDDING_NORM, _NORM) for kind in ("weight", "bias")
    ),
    prefixes=("transformer.",),
    is_tied=True,
)
_MAX_POSITIONS: Final = 2048
"""The length that the published models were trained on; ALiBi itself has no limit."""


def read_bloom_facts(checkpoint: Checkpoint, dht_prefix: str) -> ModelFacts:
    """Return the facts of a BLOOM checkpoint, whose config has old and new names.

    Raises:
        CheckpointError: config.json lacks a size, or has an absurd one.
    """
    return ModelFacts.of(
        checkpoint,
        dht_prefix,
        num_blocks=read_positive_int(checkpoint, "n_layer", "num_hidden_layers"),
        hidden_size=read_positive_int(checkpoint, "n_embed", "hidden_size"),
        vocab_size=read_positive_int(checkpoint, "vocab_size"),
        max_positions=read_positive_int(checkpoint, "seq_length", default=_MAX_POSITIONS),
    )


def load_bloom_parts(
    checkpoint: Checkpoint, facts: ModelFacts, *, dtype: torch.dtype, device: str
) -> LocalParts:
    """Read embedding, both LayerNorms and LM head. Raises as `load_local_tensors` does."""
    tensors = load_local_tensors(checkpoint, facts, _NAMES, dtype=dtype, device=device)
    epsilon = read_positive_number(checkpoint, "layer_norm_epsilon", default=1e-5)

    def norm(name: str) -> LayerNorm:
        return LayerNorm(tensors[f"{name}.weight"], tensors[f"{name}.bias"], epsilon)

    return LocalParts(
        facts,
        word_embeddings=frozen_embedding(tensors[_NAMES.embedding]),
        word_embeddings_layernorm=norm(_EMBEDDING_NORM),
        ln_f=norm(_NORM),
        lm_head=frozen_linear(tensors[HEAD]),
    )


BLOOM: Final = Family("Bloom", ("bloom",), read_bloom_facts, load_bloom_parts)
