"""How a long prefill is cut. Pure."""

from collections.abc import Iterator


def cut_into_chunks(
    num_tokens: int, *, batch_size: int, chunk_tokens: int, max_step_tokens: int, num_prompts: int
) -> Iterator[slice]:
    """Yield slices of the token axis that together are all of it.

    Args:
        num_tokens: of the step, in each row; >= 1.
        batch_size: rows, >= 1.
        chunk_tokens: wanted size of a chunk.
        max_step_tokens: a server refuses steps of more tokens, over all rows.
        num_prompts: deep prompts must all fall into the first chunk.
    """
    size = max(1, min(chunk_tokens, max_step_tokens // batch_size))
    start = 0
    while start < num_tokens:
        end = min(num_tokens, start + (size if start else max(size, num_prompts)))
        yield slice(start, end)
        start = end
