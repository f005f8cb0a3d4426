"""A prefill is cut so that servers take it."""

from hypothesis import given
from hypothesis import strategies as st

from swarm_client.session.chunks import cut_into_chunks


def sizes(num_tokens: int, **limits: int) -> list[int]:
    defaults = {"batch_size": 1, "chunk_tokens": 4, "max_step_tokens": 100, "num_prompts": 0}
    chunks = cut_into_chunks(num_tokens, **{**defaults, **limits})
    return [chunk.stop - chunk.start for chunk in chunks]


def test_a_long_prompt_is_cut_and_a_short_one_is_not() -> None:
    """The last chunk is what remains."""
    assert sizes(10) == [4, 4, 2]
    assert sizes(4) == [4]


def test_a_wide_batch_gets_shorter_chunks() -> None:
    """Servers count the tokens of all rows."""
    assert sizes(5, batch_size=50) == [2, 2, 1]
    assert sizes(2, batch_size=500) == [1, 1]


def test_deep_prompts_all_fall_into_the_first_chunk() -> None:
    """A server adds them to the first tokens of the chunk they come with."""
    assert sizes(10, num_prompts=6) == [6, 4]


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
    chunks = cut_into_chunks(
        num_tokens,
        batch_size=batch_size,
        chunk_tokens=chunk_tokens,
        max_step_tokens=64,
        num_prompts=num_prompts,
    )

    tokens = list(range(num_tokens))
    assert [token for chunk in chunks for token in tokens[chunk]] == tokens
