"""How a long step is cut. Pure."""

from typing import Final

from swarm_client.session.hop_session import StepInputs

_LEAST_OVERLAPPING: Final = 64


def cut_into_chunks(
    inputs: StepInputs, chunk_tokens: int, max_step_tokens: int
) -> list[StepInputs]:
    """Return parts of a step that, one after the other, are all of it.

    Deep prompts and the order of rows come with the first chunk, which has all tokens that
    prompts are added to, however many.

    Args:
        inputs: at least one token.
        chunk_tokens: wanted size of a chunk.
        max_step_tokens: a server refuses steps of more tokens, over all rows.
    """
    num_tokens = inputs.num_tokens
    size = max(1, min(chunk_tokens, max_step_tokens // inputs.num_rows))
    end = max(size, _least_tokens(inputs))
    if end >= num_tokens:
        return [inputs]
    hidden, only_last_at = inputs.hidden, inputs.only_last_at
    chunks = [StepInputs(hidden[:, :end], inputs.prompts, inputs.hypo_ids, only_last_at)]
    return chunks + [
        StepInputs(hidden[:, start : start + size], only_last_at=only_last_at)
        for start in range(end, num_tokens, size)
    ]


def overlapping_size(num_tokens: int, num_hops: int, chunk_tokens: int) -> int:
    """Return the size of chunks that keep several servers at work on one long step.

    Two chunks for each hop: with fewer, servers wait longer at both ends of the step, with more,
    products of few rows cost more. Chunks of less than 64 tokens do not pay.
    """
    if num_hops < 2:
        return chunk_tokens
    return min(chunk_tokens, max(_LEAST_OVERLAPPING, -(-num_tokens // (2 * num_hops))))


def can_be_cut(inputs: StepInputs, max_step_tokens: int) -> bool:
    """Tell whether a step is too long for a server, and shorter ones would do as well."""
    return inputs.size > max_step_tokens and inputs.num_tokens > _least_tokens(inputs)


def _least_tokens(inputs: StepInputs) -> int:
    return 1 if inputs.prompts is None else inputs.prompts.shape[2]
