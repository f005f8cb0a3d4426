"""Documents in rows: whole, in order, padded."""

from hypothesis import given
from hypothesis import strategies as st

from models.training.packing import pack_rows

ROW_LENGTH = 8
DOCUMENT = st.lists(st.integers(1, 99), min_size=1, max_size=ROW_LENGTH)


def test_documents_share_a_row_until_one_does_not_fit() -> None:
    """The last, unfinished row is kept as well."""
    packed = pack_rows([[1, 5, 2], [1, 2], [1, 6, 7, 2]], row_length=6)

    assert packed.token_ids.tolist() == [[1, 5, 2, 1, 2, 0], [1, 6, 7, 2, 0, 0]]
    assert packed.num_tokens == 9


def test_a_document_longer_than_a_row_is_left_out_and_counted() -> None:
    """It is never cut."""
    packed = pack_rows([[1, 2], [1, 3, 3, 3, 2], [1, 4, 2]], row_length=4)

    assert packed.token_ids.tolist() == [[1, 2, 0, 0], [1, 4, 2, 0]]
    assert packed.num_left_out == 1


@given(documents=st.lists(DOCUMENT, min_size=1, max_size=20))
def test_no_token_is_lost_or_moved(documents: list[list[int]]) -> None:
    """The rows without their padding are the documents one after the other."""
    packed = pack_rows(documents, row_length=ROW_LENGTH)

    kept = [token for row in packed.token_ids.tolist() for token in row if token != 0]
    assert kept == [token for document in documents for token in document]
    assert packed.num_left_out == 0
