"""The likeliest tokens are in one order, however many are wanted."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swarm_client.generation.candidates import (
    _select_by_torch,
    likeliest_token,
    likeliest_tokens,
)

scores = st.lists(
    st.sampled_from([0.0, -0.0, -0.5, -1e-30, -3.25, -1e4, -3e38, -torch.inf]),
    min_size=3,
    max_size=60,
).map(lambda values: torch.tensor([values, values[::-1]], dtype=torch.float32))


@settings(max_examples=100, deadline=None)
@given(scaled=scores)
def test_the_whole_order_is_by_score_and_then_by_id(scaled: Tensor) -> None:
    """Torch's stable sort is slower and gives the same."""
    expected = (scaled + 0.0).sort(dim=-1, descending=True, stable=True)

    found, token_ids = likeliest_tokens(scaled, scaled.shape[1])

    assert token_ids.equal(expected.indices)
    assert found.equal(expected.values)


@settings(max_examples=100, deadline=None)
@given(scaled=scores, num_tokens=st.integers(1, 60))
def test_some_are_the_beginning_of_all(scaled: Tensor, num_tokens: int) -> None:
    """Up to those as likely as the last one, of which any may be missing."""
    num_tokens = min(num_tokens, scaled.shape[1])
    all_scores, all_ids = likeliest_tokens(scaled, scaled.shape[1])

    found, token_ids = likeliest_tokens(scaled, num_tokens)

    assert found.equal(all_scores[:, :num_tokens])
    is_certain = found > found[:, -1:]
    assert token_ids[is_certain].equal(all_ids[:, :num_tokens][is_certain])
    assert scaled.gather(1, token_ids).equal(found)


@settings(max_examples=50, deadline=None)
@given(scaled=scores, num_tokens=st.integers(1, 60))
def test_other_devices_give_what_processors_give(scaled: Tensor, num_tokens: int) -> None:
    """Theirs is torch's own selection, which runs here as well."""
    num_tokens = min(num_tokens, scaled.shape[1])

    found, token_ids = _select_by_torch(scaled, num_tokens)

    expected, expected_ids = likeliest_tokens(scaled, num_tokens)
    assert found.equal(expected)
    is_certain = found > found[:, -1:]
    assert token_ids[is_certain].equal(expected_ids[is_certain])


def test_of_equal_tokens_the_first_is_the_likeliest() -> None:
    """Logits from bfloat16 are often equal."""
    assert likeliest_token(torch.tensor([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]])).tolist() == [1, 0]
