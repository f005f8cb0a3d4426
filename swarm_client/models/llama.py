"""Llama, and what the families that are like it share: all but the blocks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from swarm_client.models.config_fields import read_positive_int, read_positive_number
from swarm_client.models.facts import ModelFacts
from swarm_client.models.family import Family
from swarm_client.models.layers import RMSNorm, frozen_embedding, frozen_linear
from swarm_client.models.local_parts import LocalParts
from swarm_client.models.local_tensors import HEAD, LocalNames, load_local_tensors
from swarm_protocol.checkpoint import Checkpoint

_EMBEDDING: Final = "embed_tokens.weight"
_NORM: Final = "norm.weight"


def llama_like(name: str, model_type: str) -> Family:
    """Return a family whose local parts are Llama's."""
    return Family(name, (model_type,), read_llama_facts, _PARTS)


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


@dataclass(frozen=True, slots=True)
class LlamaLikeParts:
    """Reads local parts of Llama's build and names: embedding, RMS norm, LM head.

    Attributes:
        prefixes: what may stand before the names.
        is_tied: whether the embedding is the head when config.json does not say.
        embedding: makes the embedding of its weight.
        norm: makes the norm of its weight and epsilon.
    """

    prefixes: tuple[str, ...]
    is_tied: bool
    embedding: Callable[[Tensor], nn.Embedding]
    norm: Callable[[Tensor, float], nn.Module]

    def __call__(
        self, checkpoint: Checkpoint, facts: ModelFacts, *, dtype: torch.dtype, device: str
    ) -> LocalParts:
        """Return the parts. Raises as `load_local_tensors` does."""
        names = LocalNames(_EMBEDDING, (_NORM,), self.prefixes, self.is_tied)
        tensors = load_local_tensors(checkpoint, facts, names, dtype=dtype, device=device)
        epsilon = read_positive_number(checkpoint, "rms_norm_eps", default=1e-6)
        return LocalParts(
            facts,
            word_embeddings=self.embedding(tensors[_EMBEDDING]),
            ln_f=self.norm(tensors[_NORM], epsilon),
            lm_head=frozen_linear(tensors[HEAD]),
        )


_PARTS: Final = LlamaLikeParts(
    prefixes=("model.",), is_tied=False, embedding=frozen_embedding, norm=RMSNorm
)

LLAMA: Final = llama_like("Llama", "llama")
