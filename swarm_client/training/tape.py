"""What a forward pass leaves for its backward pass; no behaviour."""

from dataclasses import dataclass

import torch
from torch import Tensor

from swarm_client.routing import Hop


@dataclass(frozen=True, slots=True)
class SpanRun:
    """One span that was run: who ran it, and on what.

    `inputs` is `[num_rows, num_tokens, hidden_size]` on the CPU, as sent or received.
    """

    hop: Hop
    inputs: Tensor


@dataclass(frozen=True, slots=True)
class SubBatchTape:
    """The spans that some rows of the batch took, in order."""

    rows: slice
    runs: tuple[SpanRun, ...]


@dataclass(frozen=True, slots=True)
class Tape:
    """Everything that the gradients of one forward pass need.

    Attributes:
        shape: of inputs and outputs, `[batch, num_tokens, hidden_size]`.
        first_block: the one that `prompts[0]` belongs to.
        prompts: deep prompts `[num_blocks, batch, num_prompts, hidden_size]` on the CPU, or None.
        sub_batches: together all rows, in order.
    """

    shape: torch.Size
    first_block: int
    prompts: Tensor | None
    sub_batches: tuple[SubBatchTape, ...]
