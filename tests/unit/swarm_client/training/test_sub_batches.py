"""How a batch is cut."""

from hypothesis import given
from hypothesis import strategies as st

from swarm_client.training.sub_batches import MAX_TOKENS, MIN_TOKENS, cut_into_sub_batches


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
    assert all((size + 1) * num_tokens > MIN_TOKENS for size in sizes[:-1])


def test_a_batch_goes_in_pieces_so_that_servers_work_at_the_same_time() -> None:
    """Four of them, as long as each is worth a request."""
    assert list(cut_into_sub_batches(8, 128)) == [slice(i, i + 2) for i in range(0, 8, 2)]
    assert list(cut_into_sub_batches(4, 128)) == [slice(0, 2), slice(2, 4)]
    assert list(cut_into_sub_batches(64, 4)) == [slice(0, 64)]


def test_a_large_batch_goes_in_pieces_of_the_limit() -> None:
    """As Petals cuts it."""
    assert list(cut_into_sub_batches(64, 128)) == [slice(i, i + 8) for i in range(0, 64, 8)]


def test_rows_of_700_tokens_go_one_by_one() -> None:
    """Conformance check 36."""
    assert list(cut_into_sub_batches(3, 700)) == [slice(0, 1), slice(1, 2), slice(2, 3)]
