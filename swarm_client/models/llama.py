"""The Llama family: facts from its config, and its local parts."""

from typing import Final

import torch
from torch import Tensor, nn

from swarm_client.models.config_fields import (
    read_eos_token_ids,
    read_optional_token_id,
    read_positive_int,
)
from swarm_client.models.facts import ModelFacts
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
) -> "LlamaLocalParts":
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
    return LlamaLocalParts(
        facts,
        embedding=tensors[_EMBEDDING],
        norm=tensors[_NORM],
        head=tensors[_EMBEDDING if is_tied else _HEAD],
        norm_epsilon=float(checkpoint.config.get("rms_norm_eps", 1e-6)),
    )


class RMSNorm(nn.Module):
    """Scale to unit root mean square, computed in float32, then by a weight in its own dtype."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Return `hidden`, normed over its last axis, in the weight's dtype."""
        wide = hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        normed: Tensor = self.weight * (wide * scale).to(self.weight.dtype)
        return normed


class LlamaLocalParts(LocalParts):
    """Token embedding, final RMSNorm and LM head. All tensors have the same dtype and device."""

    def __init__(
        self,
        facts: ModelFacts,
        *,
        embedding: Tensor,
        norm: Tensor,
        head: Tensor,
        norm_epsilon: float,
    ) -> None:
        super().__init__(facts, embedding.dtype)
        self.word_embeddings = nn.Embedding(
            facts.vocab_size, facts.hidden_size, _weight=embedding, _freeze=True
        )
        self.ln_f = RMSNorm(norm, norm_epsilon)
        self.lm_head = _frozen_linear(head)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Look the tokens up."""
        hidden: Tensor = self.word_embeddings(token_ids)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply norm and head in the parts' dtype; only the result is float32."""
        logits: Tensor = self.lm_head(self.ln_f(hidden))
        return logits.float()


def _frozen_linear(weight: Tensor) -> nn.Linear:
    """Return a linear layer on `weight` itself, without allocating another."""
    num_outputs, num_inputs = weight.shape
    layer = nn.Linear(num_inputs, num_outputs, bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer
