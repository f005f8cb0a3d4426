"""Which of many outputs go into one frame. Pure."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor


class Sized(Protocol):
    """Something with hidden states [num_rows, num_tokens, hidden_size]."""

    @property
    def hidden(self) -> Tensor:
        """The hidden states."""

    @property
    def size(self) -> int:
        """What it counts for in the tokens of a frame."""


Item = TypeVar("Item", bound=Sized)


def fill_frames(items: Sequence[Item], max_tokens: int) -> Iterator[list[Item]]:
    """Yield runs of items that fit a frame together; one that alone does not is a run, too."""
    run: list[Item] = []
    num_tokens = 0
    for item in items:
        if run and num_tokens + item.size > max_tokens:
            yield run
            run, num_tokens = [], 0
        run.append(item)
        num_tokens += item.size
    if run:
        yield run


def join_rows(items: Sequence[Sized]) -> Tensor:
    """Return the hidden states of all items, [num_tokens, hidden_size]."""
    parts = [item.hidden.reshape(-1, item.hidden.shape[-1]) for item in items]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
