"""The Llama family: facts from its config, and its local parts."""

from typing import Final

import torch

from swarm_client.models.config_fields import (
    read_eos_token_ids,
    read_optional_token_id,
    read_positive_int,
)
from swarm_client.models.facts import ModelFacts
from swarm_client.models.layers import RMSNorm, frozen_embedding, frozen_linear
from swarm_client.models.local_parts import LocalParts
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError

_EMBEDDING: Final = "model.embed_tokens.weight"
_NORM: Final = "model.norm.weight"
_HEAD: Final = "lm_head.weight"


def read_llama_facts(checkpoint: Checkpoint, dht_prefix: str) -> ModelFacts:
    """Return the facts of a Llama checkpoint.

    Raises:
        CheckpointError: config.json lacks a size, or has an absurd one.
    """
    return ModelFacts(
        source=checkpoint.source,
        model_type=checkpoint.model_type,
        dht_prefix=dht_prefix,
        num_blocks=read_positive_int(checkpoint, "num_hidden_layers"),
        hidden_size=read_positive_int(checkpoint, "hidden_size"),
        vocab_size=read_positive_int(checkpoint, "vocab_size"),
        max_positions=read_positive_int(checkpoint, "max_position_embeddings"),
        eos_token_ids=read_eos_token_ids(checkpoint),
        bos_token_id=read_optional_token_id(checkpoint, "bos_token_id"),
        pad_token_id=read_optional_token_id(checkpoint, "pad_token_id"),
    )


def load_llama_parts(
    checkpoint: Checkpoint, facts: ModelFacts, *, dtype: torch.dtype, device: str
) -> LocalParts:
    """Read embedding, final norm and LM head; no block is touched.

    Raises:
        CheckpointError: a tensor is missing or has another shape than the config says.
    """
    is_tied = bool(checkpoint.config.get("tie_word_embeddings", False))
    names = [_EMBEDDING, _NORM] if is_tied else [_EMBEDDING, _NORM, _HEAD]
    tensors = {
        name: tensor.to(device) for name, tensor in checkpoint.load(names, dtype=dtype).items()
    }
    matrix = (facts.vocab_size, facts.hidden_size)
    for name, tensor in tensors.items():
        expected = (facts.hidden_size,) if name == _NORM else matrix
        if tuple(tensor.shape) != expected:
            raise CheckpointError(
                f"{checkpoint.source!r}: {name} should be {list(expected)}, is {list(tensor.shape)}"
            )
    epsilon = float(checkpoint.config.get("rms_norm_eps", 1e-6))
    return LocalParts(
        facts,
        word_embeddings=frozen_embedding(tensors[_EMBEDDING]),
        ln_f=RMSNorm(tensors[_NORM], epsilon),
        lm_head=frozen_linear(tensors[_EMBEDDING if is_tied else _HEAD]),
    )
