"""Biases, penalties and masks: what they add up to, and that nobody else notices them."""

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from swarm_client.generation.adjustments import adjust_scores
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.generation.sampler import sample_tokens
from swarm_client.generation.sampler_row import SamplerRow

VOCAB_SIZE = 100
tokens = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=150)


def random_logits(seed: int, num_rows: int) -> Tensor:
    return 4 * torch.randn(num_rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(seed))


def row_of(
    wanted: SamplingParameters,
    token_ids: list[int] | None = None,
    num_prompt: int = 0,
    mask: Tensor | None = None,
) -> SamplerRow:
    ids = [] if token_ids is None else token_ids
    return SamplerRow(wanted, ids, random.Random(0), num_prompt=num_prompt, mask=mask)


def adjusted(logits: Tensor, rows: list[SamplerRow]) -> Tensor:
    scores = logits.clone()
    adjust_scores(scores, rows)
    return scores


def mask_of(allowed: set[int], vocab_size: int = VOCAB_SIZE) -> Tensor:
    words = [0] * -(-vocab_size // 32)
    for token_id in allowed:
        words[token_id // 32] |= 1 << token_id % 32
    return torch.tensor([word - 2**32 * (word >> 31) for word in words], dtype=torch.int32)


@settings(max_examples=50, deadline=None)
@given(
    prompt=tokens,
    output=tokens,
    frequency=st.floats(-2, 2, width=32),
    presence=st.floats(-2, 2, width=32),
    repetition=st.sampled_from([1.0, 1.3, 0.8]),
)
def test_penalties_follow_the_published_formulas(
    prompt: list[int], output: list[int], frequency: float, presence: float, repetition: float
) -> None:
    """Transformers' for repetition, of all tokens; OpenAI's for the others, of the output."""
    logits = random_logits(len(prompt), 1)
    wanted = SamplingParameters(
        repetition_penalty=repetition, frequency_penalty=frequency, presence_penalty=presence
    )

    scores = adjusted(logits, [row_of(wanted, prompt + output, len(prompt))])

    ids = torch.tensor([prompt + output], dtype=torch.int64)
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(repetition)])
    expected: Tensor = processors(ids, logits.clone())
    for token_id in range(VOCAB_SIZE):
        count = output.count(token_id)
        expected[0, token_id] -= count * frequency + float(count > 0) * presence
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)  # sums of up to 150 in float32


@settings(max_examples=25, deadline=None)
@given(prompt=tokens, output=tokens)
def test_penalties_counted_token_by_token_equal_those_counted_at_once(
    prompt: list[int], output: list[int]
) -> None:
    """A row that has seen its tokens come is where one is that is made for all of them."""
    wanted = SamplingParameters(
        repetition_penalty=1.2, frequency_penalty=0.5, presence_penalty=-0.3
    )
    logits = random_logits(1, 1)
    grown = list(prompt)
    row = row_of(wanted, grown, len(prompt))

    for token_id in output:
        adjusted(logits, [row])
        grown.append(token_id)

    at_once = row_of(wanted, prompt + output, len(prompt))
    assert adjusted(logits, [row]).equal(adjusted(logits, [at_once]))


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "repetition": {"repetition_penalty": 1.5},
    "frequency": {"frequency_penalty": 1.0},
    "bias": {"logit_bias": ((3, 5.0), (99, -100.0))},
    "sampled": {"do_sample": True, "top_p": 0.8, "presence_penalty": 1.5},
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.booleans()), min_size=1, max_size=8),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_row_gets_the_same_token_alone_and_in_any_company(
    kinds: list[tuple[str, bool]], seed: int
) -> None:
    """Whichever of its neighbours have penalties, biases, masks, or nothing at all."""
    logits = random_logits(seed, len(kinds))

    def row_at(index: int) -> SamplerRow:
        kind, is_masked = kinds[index]
        mask = mask_of({index, 31, 32, 63, 64, 99}) if is_masked else None
        return row_of(SamplingParameters(**KINDS[kind]), [1, 2, 2, index], 1, mask)

    together = sample_tokens(logits, [row_at(index) for index in range(len(kinds))])

    alone = [sample_tokens(logits[i : i + 1], [row_at(i)])[0] for i in range(len(kinds))]
    assert together == alone


@given(
    allowed=st.sets(st.integers(0, VOCAB_SIZE - 1), min_size=1),
    do_sample=st.booleans(),
    top_p=st.sampled_from([1.0, 0.7]),
    top_k=st.sampled_from([0, 3]),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_only_tokens_of_the_mask_are_chosen(
    allowed: set[int], do_sample: bool, top_p: float, top_k: int, seed: int
) -> None:
    """Greedy ones are the likeliest of them, sampled ones any; biases cannot bring others back."""
    logits = random_logits(seed, 1)
    wanted = SamplingParameters(
        do_sample=do_sample, top_p=top_p, top_k=top_k, logit_bias=((0, 100.0), (50, 100.0))
    )

    (token,) = sample_tokens(logits, [row_of(wanted, mask=mask_of(allowed))])

    assert token in allowed
    if not do_sample:
        biased = adjusted(logits, [row_of(wanted)])[0]
        assert biased[token] == max(biased[other] for other in allowed)


@pytest.mark.parametrize("vocab_size", [5000, 32000])
def test_few_allowed_tokens_of_a_large_vocabulary_are_drawn_in_proportion(vocab_size: int) -> None:
    """Fewer than the candidates looked at; impossible ones need no second look."""
    logits = torch.zeros(1, vocab_size)
    logits[0, 4999] = 1.0
    wanted = SamplingParameters(do_sample=True, top_p=0.99, seed=1)
    row = row_of(wanted, mask=mask_of({7, 4999}, vocab_size))

    drawn = [sample_tokens(logits, [row])[0] for _ in range(400)]

    assert set(drawn) == {7, 4999}
    assert 0.65 < drawn.count(4999) / 400 < 0.81  # e / (e + 1) = 0.73, four standard deviations


def test_rows_that_want_nothing_count_nothing() -> None:
    """Nor do they leave the batch's one search for the likeliest tokens."""
    row = row_of(SamplingParameters(repetition_penalty=1.0), [1])

    assert row.history is None
    assert not row.is_adjusted


def test_the_callers_logits_stay_as_they_are() -> None:
    """Log-probabilities are read from them later."""
    logits = random_logits(0, 1)
    before = logits.clone()
    wanted = SamplingParameters(logit_bias=((3, 9.0),), presence_penalty=1.0)

    sample_tokens(logits, [row_of(wanted, [1, 2], mask=mask_of({3, 4}))])

    assert logits.equal(before)
