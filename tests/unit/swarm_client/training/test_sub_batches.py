"""How a batch is cut."""

from hypothesis import given
from hypothesis import strategies as st

from swarm_client.training.sub_batches import MAX_TOKENS, cut_into_sub_batches


@given(batch_size=st.integers(0, 5000), num_tokens=st.integers(1, 3000))
def test_sub_batches_are_all_rows_once_and_within_the_limit(
    batch_size: int, num_tokens: int
) -> None:
    """A row that is longer than the limit goes alone."""
    sub_batches = list(cut_into_sub_batches(batch_size, num_tokens))

    rows = [row for part in sub_batches for row in range(part.start, part.stop)]
    assert rows == list(range(batch_size))
    sizes = [part.stop - part.start for part in sub_batches]
    assert all(size == 1 or size * num_tokens <= MAX_TOKENS for size in sizes)
    assert all((size + 1) * num_tokens > MAX_TOKENS for size in sizes[:-1])


def test_rows_of_700_tokens_go_one_by_one() -> None:
    """Conformance check 36."""
    assert list(cut_into_sub_batches(3, 700)) == [slice(0, 1), slice(1, 2), slice(2, 3)]
