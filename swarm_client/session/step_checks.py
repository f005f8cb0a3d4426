"""Checks of what a caller wants to run through which blocks. Pure; they raise ValueError."""

from math import isfinite
from typing import Final

import torch
from torch import Tensor

from swarm_client.models.facts import ModelFacts
from swarm_protocol.dialect import MAX_NAME_LENGTH, MAX_U32
from swarm_protocol.identifiers import BlockRange

_AS_WIDE_AS_FLOAT32: Final = (torch.float32, torch.bfloat16)


def is_finite(hidden: Tensor) -> bool:
    """Tell whether no value is NaN or infinite, which in float32 makes the sum so.

    Dtypes that reach as far are summed as they are, in a third of the time.
    """
    is_wide = hidden.dtype in _AS_WIDE_AS_FLOAT32
    total = hidden.sum() if is_wide else hidden.sum(dtype=torch.float32)
    return isfinite(total.item())


def check_opening(*, max_length: int, batch_size: int, tenant: str) -> None:
    """Check what a session is opened with.

    What does not fit an opening would be the end of all sessions on the same stream.
    """
    if max_length < 1 or batch_size < 1:
        raise ValueError(f"a session needs room, got {max_length} tokens, {batch_size} rows")
    if max_length > MAX_U32:
        raise ValueError(f"a session has at most {MAX_U32} tokens, got {max_length}")
    if len(tenant) > MAX_NAME_LENGTH:
        raise ValueError(
            f"the name of a tenant has at most {MAX_NAME_LENGTH} characters, got {len(tenant)}"
        )


def check_blocks(blocks: BlockRange | None, facts: ModelFacts) -> BlockRange:
    """Return the blocks to run through, by default all of the model."""
    if blocks is None:
        return BlockRange(0, facts.num_blocks)
    if len(blocks) == 0 or blocks.end > facts.num_blocks:
        raise ValueError(f"expected some of the blocks 0:{facts.num_blocks}, got {blocks}")
    return blocks


def check_hidden(hidden: Tensor, facts: ModelFacts, batch_size: int | None) -> None:
    """Check hidden states `[batch, num_tokens, hidden_size]`; a session keeps its batch size."""
    shape = hidden.shape
    if len(shape) != 3 or shape[2] != facts.hidden_size or 0 in shape:
        raise ValueError(
            f"hidden states must be [batch, num_tokens, {facts.hidden_size}], got {list(shape)}"
        )
    if not hidden.is_floating_point():
        raise ValueError(f"hidden states must be floating-point, got {hidden.dtype}")
    if not is_finite(hidden):  # a server would get the blame
        raise ValueError("hidden states must be finite, got NaN or infinite ones")
    if batch_size is not None and shape[0] != batch_size:
        raise ValueError(f"this session has {batch_size} rows, got {shape[0]}")


def check_prompts(prompts: Tensor, hidden: Tensor, num_blocks: int, position: int = 0) -> None:
    """Check deep prompts `[num_blocks, batch or 1, num_prompts, hidden_size]`."""
    batch_size, num_tokens, hidden_size = hidden.shape
    is_fitting = (
        prompts.dim() == 4
        and prompts.shape[0] == num_blocks
        and prompts.shape[1] in (1, batch_size)
        and 0 < prompts.shape[2] <= num_tokens
        and prompts.shape[3] == hidden_size
        and prompts.is_floating_point()
    )
    if not is_fitting:
        raise ValueError(
            f"deep prompts must be floating-point [{num_blocks}, 1 or {batch_size}, "
            f"1 to {num_tokens}, {hidden_size}], got {list(prompts.shape)} of {prompts.dtype}"
        )
    if position:
        raise ValueError(f"deep prompts belong to position 0; the session is at {position}")


def check_hypo_ids(hypo_ids: Tensor, batch_size: int) -> None:
    """Check the rows to continue, int64 `[batch]`."""
    if hypo_ids.dtype != torch.int64 or tuple(hypo_ids.shape) != (batch_size,):
        raise ValueError(
            f"hypo_ids must be int64 [{batch_size}], got {list(hypo_ids.shape)} of {hypo_ids.dtype}"
        )
    if not bool(((hypo_ids >= 0) & (hypo_ids < batch_size)).all()):
        raise ValueError(f"hypo_ids must be in 0..{batch_size - 1}")
