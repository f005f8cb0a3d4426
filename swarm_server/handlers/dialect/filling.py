"""Which of many outputs go into one frame. Pure."""

from collections.abc import Iterator, Sequence


def fill_frames(sizes: Sequence[int], max_tokens: int) -> Iterator[slice]:
    """Yield runs of items that fit a frame together; one that alone does not is a run, too.

    Args:
        sizes: what each item counts for in the tokens of a frame.
        max_tokens: of a frame.
    """
    start = num_tokens = 0
    for index, size in enumerate(sizes):
        if num_tokens + size > max_tokens and index > start:
            yield slice(start, index)
            start, num_tokens = index, 0
        num_tokens += size
    if sizes:
        yield slice(start, len(sizes))
