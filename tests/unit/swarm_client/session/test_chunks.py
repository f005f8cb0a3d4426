"""A prefill is cut so that servers take it."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from swarm_client.session import StepInputs
from swarm_client.session.chunks import can_be_cut, cut_into_chunks
from swarm_protocol.identifiers import BlockRange


def step_of(num_tokens: int, *, batch_size: int = 1, num_prompts: int = 0) -> StepInputs:
    tokens = torch.arange(num_tokens).repeat(batch_size, 1)[:, :, None]
    prompts = torch.zeros(2, 1, num_prompts, 1) if num_prompts else None
    return StepInputs(tokens, prompts, torch.arange(batch_size))


def sizes(step: StepInputs, max_step_tokens: int = 100) -> list[int]:
    return [chunk.num_tokens for chunk in cut_into_chunks(step, 4, max_step_tokens)]


def test_a_long_prompt_is_cut_and_a_short_one_is_not() -> None:
    """The last chunk is what remains."""
    assert sizes(step_of(10)) == [4, 4, 2]
    short = step_of(4)
    assert cut_into_chunks(short, 4, 100) == [short]


def test_a_wide_batch_gets_shorter_chunks() -> None:
    """Servers count the tokens of all rows."""
    assert sizes(step_of(5, batch_size=50)) == [2, 2, 1]
    assert sizes(step_of(2, batch_size=500)) == [1, 1]


def test_prompts_and_order_of_rows_all_go_with_the_first_chunk() -> None:
    """A server adds prompts to the first tokens of the step they come with."""
    first, second = cut_into_chunks(step_of(10, num_prompts=6), 4, 100)

    assert (first.num_tokens, second.num_tokens) == (6, 4)
    assert first.prompts is not None
    assert first.hypo_ids is not None
    assert second.prompts is second.hypo_ids is None


def test_what_is_wanted_of_a_prompt_is_said_with_each_chunk() -> None:
    """Nobody reads what comes of the first ones but to know that they have run."""
    chunks = cut_into_chunks(step_of(10).only_last(BlockRange(2, 4)), 4, 100)

    assert [chunk.only_last_at for chunk in chunks] == [4, 4, 4]


def test_only_what_gets_shorter_can_be_cut() -> None:
    """Prompts and rows are not divided."""
    assert can_be_cut(step_of(6), 5)
    assert not can_be_cut(step_of(5), 5)
    assert not can_be_cut(step_of(6, num_prompts=6), 5)
    assert not can_be_cut(step_of(1, batch_size=6), 5)


@given(
    num_tokens=st.integers(1, 200),
    batch_size=st.integers(1, 20),
    chunk_tokens=st.integers(1, 50),
    num_prompts=st.integers(0, 50),
)
def test_chunks_are_the_whole_prompt_in_order(
    num_tokens: int, batch_size: int, chunk_tokens: int, num_prompts: int
) -> None:
    """No token is lost, repeated or moved."""
    step = step_of(num_tokens, batch_size=batch_size, num_prompts=num_prompts)

    chunks = cut_into_chunks(step, chunk_tokens, 64)

    assert torch.cat([chunk.hidden for chunk in chunks], dim=1).equal(step.hidden)
