"""Log-probabilities are those of the model's own distribution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_client.generation.logprobs import TokenLogprob, token_logprobs


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999),
    rows=st.lists(st.tuples(st.integers(0, 49), st.integers(0, 20)), min_size=1, max_size=5),
)
def test_they_equal_log_softmax(seed: int, rows: list[tuple[int, int]]) -> None:
    """Of the chosen token and of as many of the likeliest as each row wants."""
    token_ids, num_top = [token_id for token_id, _ in rows], [num for _, num in rows]
    logits = 4 * torch.randn(len(rows), 50, generator=torch.Generator().manual_seed(seed))

    found = token_logprobs(logits, token_ids, num_top)

    for row, expected in zip(found, logits.log_softmax(dim=-1), strict=True):
        likeliest = expected.sort(descending=True)
        assert row.logprob == pytest.approx(float(expected[row.token_id]), abs=1e-5)
        assert [token_id for token_id, _ in row.top] == likeliest.indices[: len(row.top)].tolist()
        assert [logprob for _, logprob in row.top] == pytest.approx(
            likeliest.values[: len(row.top)].tolist(), abs=1e-5
        )
    assert [len(row.top) for row in found] == num_top


def test_a_vocabulary_smaller_than_what_is_wanted_is_named_whole() -> None:
    """Nothing is made up."""
    (found,) = token_logprobs(torch.zeros(1, 2), [1], [20])

    assert sorted(token_id for token_id, _ in found.top) == [0, 1]


def test_an_impossible_token_has_a_number_that_json_knows() -> None:
    """Servers decide how far logits are apart; infinity is not a number of JSON."""
    logits = torch.tensor([[3e38, -3e38]])

    (found,) = token_logprobs(logits, [1], [2])

    assert found == TokenLogprob(1, -9999.0, ((0, 0.0), (1, -9999.0)))
