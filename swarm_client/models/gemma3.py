"""Gemma 3, by itself or as the language model of one that also sees.

Configs of the latter leave out what equals transformers' defaults, so the defaults are here.
"""

from typing import Final

import torch
from torch import Tensor, nn

from swarm_client.models.config_fields import read_positive_int, text_config
from swarm_client.models.facts import ModelFacts
from swarm_client.models.family import Family
from swarm_client.models.llama import LlamaLikeParts
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError


class ScaledEmbedding(nn.Embedding):
    """A frozen embedding times the root of its width, which is rounded to the dtype first."""

    def __init__(self, weight: Tensor) -> None:
        vocab_size, hidden_size = weight.shape
        super().__init__(vocab_size, hidden_size, _weight=weight, _freeze=True)
        self.scale = torch.tensor(hidden_size**0.5, dtype=weight.dtype).item()

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return scaled embeddings `[..., hidden_size]` of int64 ids `[...]`."""
        return super().forward(token_ids) * self.scale


class OffsetRMSNorm(nn.Module):
    """Scale to unit root mean square, then by one plus a weight, all in float32."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Return `hidden`, normed over its last axis, in the weight's dtype."""
        wide = hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return (wide * scale * (1.0 + self.weight.float())).to(self.weight.dtype)


def read_gemma3_facts(checkpoint: Checkpoint, dht_prefix: str) -> ModelFacts:
    """Return the facts of a Gemma 3 checkpoint.

    Raises:
        CheckpointError: config.json has an absurd size, or wants its logits capped, which no
            published Gemma 3 does.
    """
    if text_config(checkpoint).get("final_logit_softcapping") is not None:
        raise CheckpointError(
            f"config.json of {checkpoint.source!r}: final_logit_softcapping is not supported"
        )
    return ModelFacts.of(
        checkpoint,
        dht_prefix,
        num_blocks=read_positive_int(checkpoint, "num_hidden_layers", default=26),
        hidden_size=read_positive_int(checkpoint, "hidden_size", default=2304),
        vocab_size=read_positive_int(checkpoint, "vocab_size", default=262_208),
        max_positions=read_positive_int(checkpoint, "max_position_embeddings", default=131_072),
    )


_PARTS: Final = LlamaLikeParts(
    prefixes=("model.", "language_model.model.", "model.language_model.", "language_model."),
    is_tied=True,
    embedding=ScaledEmbedding,
    norm=OffsetRMSNorm,
)

GEMMA3: Final = Family("Gemma3", ("gemma3_text", "gemma3"), read_gemma3_facts, _PARTS)
