"""How much memory the local parts of a model will take, known before they are loaded."""

import torch

from swarm_client.models.config_fields import read_flag
from swarm_client.models.facts import ModelFacts
from swarm_client.models.heads import HeadKind, head_bytes
from swarm_client.models.local_tensors import HEAD
from swarm_protocol.checkpoint import Checkpoint


def local_bytes(
    checkpoint: Checkpoint,
    facts: ModelFacts,
    head: HeadKind | None,
    *,
    dtype: torch.dtype,
    device: str,
) -> int:
    """Return what embeddings and LM head will take; norms are not worth counting.

    Reads names from the safetensors' headers, and no tensor: what has another shape than
    config.json says is refused when it is loaded. Loading takes up to one more head for a moment.

    Raises:
        CheckpointError: the headers cannot be read.
    """
    row = torch.empty(1, 1, dtype=dtype, device=device)
    weight = row.expand(facts.vocab_size, facts.hidden_size)  # of this shape, and one number
    is_tied = read_flag(checkpoint, "tie_word_embeddings", default=not checkpoint.has(HEAD))
    return weight.numel() * dtype.itemsize + head_bytes(weight, head, is_tied=is_tied)
