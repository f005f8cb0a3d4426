"""Which arithmetic an LM head uses, how much memory that takes, and the head itself."""

from collections.abc import Callable
from time import thread_time
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor, nn

from swarm_client.models.int8_head import Int8Head, can_quantize
from swarm_client.models.layers import frozen_linear
from swarm_client.models.packed_head import PackedHead, can_pack
from swarm_kernels import fastest_of, mixed_rows
from swarm_protocol.errors import CheckpointError
from swarm_protocol.logs import get_logger

log = get_logger(__name__)

HeadKind: TypeAlias = Literal["float32", "bfloat16", "int8"]
HeadChoice: TypeAlias = Literal["auto", "float32", "bfloat16", "int8"]

_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_NUM_OUTPUTS: Final = 4096


class CastHead(nn.Linear):
    """A head of another dtype than the hidden states that it is given."""

    def __init__(self, weight: Tensor) -> None:
        """Take `[vocab_size, hidden_size]`, which is held without a copy."""
        vocab_size, hidden_size = weight.shape
        super().__init__(hidden_size, vocab_size, bias=False, device="meta")
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return `[num_rows, vocab_size]` in the weight's dtype."""
        return super().forward(hidden.to(self.weight.dtype))


def choose_head(
    choice: HeadChoice,
    dtype: torch.dtype,
    device: str,
    hidden_size: int,
    *,
    clock: Callable[[], float] = thread_time,
) -> HeadKind | None:
    """Return the arithmetic of a head, or None for that of its weights as they are.

    `auto` keeps float32 as it is, and for 16 bits on a CPU takes bfloat16 or float32, whichever is
    faster here: both have the weights to the last bit. int8 changes tokens, and must be asked for.

    Args:
        choice: what the operator wants.
        dtype: of the weights, as they are loaded.

    Raises:
        CheckpointError: no int8 on this device, or in this torch.
    """
    if choice == "int8" and not (device == "cpu" and can_quantize()):
        raise CheckpointError("an LM head of int8 needs an x86 CPU; choose another SWARMGATE_HEAD")
    if choice != "auto":
        return choice
    if device != "cpu" or dtype == torch.float32:
        return None
    kinds: tuple[HeadKind, ...] = ("bfloat16", "float32")
    fastest = fastest_of({kind: _trial(kind, hidden_size) for kind in kinds}, clock=clock)
    log.info("head_chosen", head=fastest.name, **fastest.took_ms)
    return fastest.name


def make_head(weight: Tensor, kind: HeadKind | None) -> nn.Linear:
    """Return a head of this arithmetic, which keeps `weight` only where that is its own."""
    if kind == "int8":
        return Int8Head(weight)
    if kind is not None and weight.dtype != _DTYPES[kind]:
        weight = weight.to(_DTYPES[kind])
        return PackedHead(weight) if can_pack(weight) else CastHead(weight)
    return PackedHead(weight) if can_pack(weight) else frozen_linear(weight)


def head_bytes(weight: Tensor, kind: HeadKind | None, *, is_tied: bool) -> int:
    """Return what a head takes beside the embeddings, counted without loading anything.

    Args:
        weight: its shape, dtype and device, as it will be loaded; the numbers are not looked at.
        is_tied: whether the weight is that of the embeddings.
    """
    vocab_size, hidden_size = weight.shape
    if kind == "int8":
        return vocab_size * (hidden_size + 8)  # and a scale and a sum per row
    own = weight[:0] if kind is None else weight[:0].to(_DTYPES[kind])
    is_shared = is_tied and own.dtype == weight.dtype and not can_pack(own)
    return 0 if is_shared else vocab_size * hidden_size * own.itemsize


def _trial(kind: HeadKind, hidden_size: int) -> Callable[[], None]:
    """Return what puts decode steps of one session, and of some, through a part of a head."""
    weight = torch.ones(_NUM_OUTPUTS, hidden_size, dtype=_DTYPES[kind])
    head = PackedHead(weight) if can_pack(weight) else frozen_linear(weight)
    return mixed_rows(head, hidden_size, weight.dtype, num_chunk_rows=None)
