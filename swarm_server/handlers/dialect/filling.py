"""Which of many outputs go into one frame. Pure."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar


class Sized(Protocol):
    """Something with tokens."""

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
