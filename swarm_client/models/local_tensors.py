"""Reads the local tensors of a checkpoint, whatever stands before their names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from swarm_client.models.config_fields import read_flag
from swarm_client.models.facts import ModelFacts
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError

HEAD: Final = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class LocalNames:
    """How a family's checkpoints call the local tensors. The head is `lm_head.weight` in all.

    Attributes:
        embedding: name of the `[vocab_size, hidden_size]` embedding.
        vectors: names of `[hidden_size]` tensors: weights and biases of norms.
        prefixes: what may stand before a name; models saved without their head drop the usual.
        is_tied: whether the embedding is the head when config.json does not say.
    """

    embedding: str
    vectors: tuple[str, ...]
    prefixes: tuple[str, ...]
    is_tied: bool


def load_local_tensors(
    checkpoint: Checkpoint,
    facts: ModelFacts,
    names: LocalNames,
    *,
    dtype: torch.dtype,
    device: str,
) -> Mapping[str, Tensor]:
    """Read embedding, head and vectors; no block is touched.

    Returns:
        Tensors by their names without a prefix. A tied head is the embedding itself; one in the
        file is then not read.

    Raises:
        CheckpointError: a tensor is missing or has another shape than config.json says.
    """
    matrix = (facts.vocab_size, facts.hidden_size)
    shapes = {names.embedding: matrix} | dict.fromkeys(names.vectors, matrix[1:])
    is_tied = read_flag(checkpoint, "tie_word_embeddings", default=names.is_tied)
    if not is_tied:
        shapes[HEAD] = matrix
    stored = {name: _stored_name(checkpoint, name, names.prefixes) for name in shapes}
    loaded = checkpoint.load(stored.values(), dtype=dtype)
    for name, shape in shapes.items():
        actual = tuple(loaded[stored[name]].shape)
        if actual != shape:
            raise CheckpointError(
                f"{checkpoint.source!r}: {stored[name]} should be {list(shape)}, is {list(actual)}"
            )
    tensors = {name: loaded[stored[name]].to(device) for name in shapes}
    if is_tied:
        tensors[HEAD] = tensors[names.embedding]
    return tensors


def _stored_name(checkpoint: Checkpoint, name: str, prefixes: tuple[str, ...]) -> str:
    for prefix in ("", *prefixes):
        if checkpoint.has(prefix + name):
            return prefix + name
    known = ", ".join(repr(prefix) for prefix in prefixes)
    raise CheckpointError(
        f"{checkpoint.source!r} has no tensor {name}, nor one with {known} before its name"
    )
