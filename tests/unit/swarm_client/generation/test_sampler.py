"""Sampler: same distributions as transformers, whatever the batch."""

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from swarm_client.generation.draws import draw
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.generation.sampler import sample_tokens
from swarm_client.generation.sampler_row import SamplerRow

parameters = st.builds(
    SamplingParameters,
    do_sample=st.just(True),
    temperature=st.floats(0.1, 3),
    top_k=st.sampled_from([0, 1, 3, 50, 2000]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.02, 0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
    logit_bias=st.dictionaries(st.integers(0, 39), st.floats(-100, 100), max_size=4).map(
        lambda biases: tuple(biases.items())
    ),
)
token_lists = st.lists(st.integers(0, 39), max_size=20)


def random_logits(seed: int, num_rows: int, vocab_size: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(num_rows, vocab_size, generator=generator)


def transformers_probabilities(
    logits: Tensor, wanted: SamplingParameters, token_ids: list[int]
) -> Tensor:
    """Apply transformers' processors in the order of its `generate`."""
    processors = LogitsProcessorList()
    if wanted.logit_bias:
        biases = {(token_id,): bias for token_id, bias in wanted.logit_bias}
        processors.append(SequenceBiasLogitsProcessor(biases))
    processors.append(RepetitionPenaltyLogitsProcessor(wanted.repetition_penalty))
    processors.append(TemperatureLogitsWarper(wanted.temperature))
    if wanted.top_k:
        processors.append(TopKLogitsWarper(wanted.top_k))
    if wanted.top_p < 1:
        processors.append(TopPLogitsWarper(wanted.top_p))
    processors.append(MinPLogitsWarper(wanted.min_p))
    ids = torch.tensor([token_ids], dtype=torch.int64)
    scores: Tensor = processors(ids, logits.clone().unsqueeze(0))
    return scores.softmax(dim=-1)[0].double()


class FixedNumber(random.Random):
    """Draws the same number for ever."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def random(self) -> float:
        return self.number


def sampled_frequencies(
    logits: Tensor, wanted: SamplingParameters, token_ids: list[int], num_draws: int
) -> Tensor:
    """Draw with evenly spaced numbers: frequencies are then exact up to 1 / num_draws."""
    numbers = [(index + 0.5) / num_draws for index in range(num_draws)]
    rows = [SamplerRow(wanted, token_ids, FixedNumber(number)) for number in numbers]
    tokens = sample_tokens(logits.expand(num_draws, -1), rows)
    return torch.bincount(torch.tensor(tokens), minlength=len(logits)).double() / num_draws


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), wanted=parameters, token_ids=token_lists)
def test_distribution_equals_that_of_transformers_processors(
    seed: int, wanted: SamplingParameters, token_ids: list[int]
) -> None:
    """Any mix of bias, repetition penalty, temperature, top-k, top-p and min-p."""
    logits = random_logits(seed, 1, 40)[0]

    frequencies = sampled_frequencies(logits, wanted, token_ids, num_draws=200)

    expected = transformers_probabilities(logits, wanted, token_ids)
    assert (frequencies - expected).abs().max() <= 2 / 200


@pytest.mark.parametrize(
    "wanted",
    [
        SamplingParameters(do_sample=True, top_k=40, top_p=0.9),
        SamplingParameters(do_sample=True, top_p=0.9, temperature=0.5),
        SamplingParameters(do_sample=True, top_p=0.9999, temperature=9.0),
        SamplingParameters(do_sample=True, top_k=1500, temperature=9.0),
        SamplingParameters(do_sample=True, min_p=0.3),
    ],
)
def test_a_large_vocabulary_gives_the_same_distribution(wanted: SamplingParameters) -> None:
    """Both when the likeliest candidates are enough and when everything must be sorted."""
    logits = random_logits(7, 1, 5000)[0]

    frequencies = sampled_frequencies(logits, wanted, [], num_draws=100)

    expected = transformers_probabilities(logits, wanted, [])
    assert (frequencies - expected).abs().max() <= 2 / 100


def test_tokens_as_likely_as_the_kth_are_kept_as_transformers_keeps_them() -> None:
    """Logits from bfloat16 are often equal; top-k then keeps more than k."""
    logits = torch.zeros(200)
    wanted = SamplingParameters(do_sample=True, top_k=5)

    frequencies = sampled_frequencies(logits, wanted, [], num_draws=200)

    assert frequencies.count_nonzero() == 200


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), wanted=st.lists(parameters, min_size=2, max_size=6))
def test_a_row_draws_the_same_token_alone_and_in_any_company(
    seed: int, wanted: list[SamplingParameters]
) -> None:
    """Neighbours, greedy ones among them, and their order have no influence."""
    wanted[0] = replace(wanted[0], do_sample=False)
    logits = random_logits(seed, len(wanted), 1500)

    together = sample_tokens(logits, make_rows(wanted))

    alone = [
        sample_tokens(logits[i : i + 1], make_rows(wanted)[i : i + 1])[0]
        for i in range(len(wanted))
    ]
    assert together == alone


def make_rows(wanted: list[SamplingParameters]) -> list[SamplerRow]:
    return [SamplerRow(p, [1, 2, 3, 3], random.Random(i)) for i, p in enumerate(wanted)]


def test_greedy_rows_take_the_likeliest_token_and_draw_no_number() -> None:
    """The request's random numbers are left for rows that sample."""
    logits = random_logits(0, 3, 100)
    rows = [SamplerRow(SamplingParameters(), [], random.Random(0)) for _ in range(3)]

    assert sample_tokens(logits, rows) == logits.argmax(dim=-1).tolist()
    assert rows[0].random.random() == random.Random(0).random()


def test_greedy_choice_respects_the_repetition_penalty() -> None:
    """Only the penalised row changes, and the caller's logits stay as they are."""
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    before = logits.clone()
    plain = SamplerRow(SamplingParameters(), [1], random.Random(0))
    penalised = SamplerRow(SamplingParameters(repetition_penalty=2.0), [1, 1], random.Random(0))

    assert sample_tokens(logits, [plain, penalised]) == [1, 2]
    assert logits.equal(before)


def test_one_number_is_drawn_per_token() -> None:
    """So a request that resumes with the same generator continues the same sequence."""
    row = SamplerRow(SamplingParameters(do_sample=True, top_p=0.5), [], random.Random(5))
    twin = random.Random(5)

    sample_tokens(random_logits(0, 1, 2000), [row])

    twin.random()
    assert row.random.random() == twin.random()


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_extreme_numbers_choose_a_token_that_has_weight(number: float) -> None:
    """Rounding never leads to a token of weight zero."""
    weights = torch.tensor([[0.0, 0.1, 0.3, 0.0]], dtype=torch.float64)

    choice = draw(weights, torch.tensor([number], dtype=torch.float64))

    assert choice.item() == (1 if number == 0 else 2)


def test_the_lowest_temperature_is_greedy() -> None:
    """No overflow, no NaN."""
    logits = 100 * random_logits(3, 1, 500)
    coldest = SamplingParameters(do_sample=True, temperature=1e-30)

    assert sample_tokens(logits, make_rows([coldest])) == logits.argmax(dim=-1).tolist()


def test_no_rows_give_no_tokens() -> None:
    """An empty batch is legal."""
    assert sample_tokens(torch.empty(0, 10), []) == []
