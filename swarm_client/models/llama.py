"""Llama, and what the families that are like it share: all but the blocks."""

from typing import Final

import torch

from swarm_client.models.config_fields import read_positive_int, read_positive_number
from swarm_client.models.facts import ModelFacts
from swarm_client.models.family import Family
from swarm_client.models.layers import RMSNorm, frozen_embedding, frozen_linear
from swarm_client.models.local_parts import LocalParts
from swarm_client.models.local_tensors import HEAD, LocalNames, load_local_tensors
from swarm_protocol.checkpoint import Checkpoint

_NORM: Final = "norm.weight"
_NAMES: Final = LocalNames(
    embedding="embed_tokens.weight", vectors=(_NORM,), prefixes=("model.",), is_tied=False
)


def llama_like(name: str, model_type: str) -> Family:
    """Return a family whose local parts are Llama's."""
    return Family(name, (model_type,), read_llama_facts, load_llama_parts)


def read_llama_facts(checkpoint: Checkpoint, dht_prefix: str) -> ModelFacts:
    """Return the facts of a Llama checkpoint.

    Raises:
        CheckpointError: config.json lacks a size, or has an absurd one.
    """
    return ModelFacts.of(
        checkpoint,
        dht_prefix,
        num_blocks=read_positive_int(checkpoint, "num_hidden_layers"),
        hidden_size=read_positive_int(checkpoint, "hidden_size"),
        vocab_size=read_positive_int(checkpoint, "vocab_size"),
        max_positions=read_positive_int(checkpoint, "max_position_embeddings"),
    )


def load_llama_parts(
    checkpoint: Checkpoint, facts: ModelFacts, *, dtype: torch.dtype, device: str
) -> LocalParts:
    """Read embedding, final RMSNorm and LM head. Raises as `load_local_tensors` does."""
    tensors = load_local_tensors(checkpoint, facts, _NAMES, dtype=dtype, device=device)
    epsilon = read_positive_number(checkpoint, "rms_norm_eps", default=1e-6)
    return LocalParts(
        facts,
        word_embeddings=frozen_embedding(tensors[_NAMES.embedding]),
        ln_f=RMSNorm(tensors[_NORM], epsilon),
        lm_head=frozen_linear(tensors[HEAD]),
    )


LLAMA: Final = llama_like("Llama", "llama")
