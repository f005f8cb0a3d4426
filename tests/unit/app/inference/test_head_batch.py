from random import Random

import pytest
import torch

from app.inference.errors import BadHiddenStatesError, HeadFailedError
from app.inference.head_batch import Choice, HeadRow, choose_tokens
from swarm_client.generation.logprobs import TokenLogprob
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.generation.sampler_row import SamplerRow
from swarm_client.models import LocalParts
from swarm_protocol.errors import SwarmError

SAMPLED = SamplingParameters(do_sample=True, temperature=2.0)


def row_of(parts: LocalParts, seed: int, parameters: SamplingParameters = SAMPLED) -> HeadRow:
    hidden = torch.randn(parts.facts.hidden_size, generator=torch.Generator().manual_seed(seed))
    return HeadRow(hidden, SamplerRow(parameters, [seed], Random(seed)))


def token_ids(outcomes: list[Choice | SwarmError]) -> list[int]:
    return [outcome.token_id for outcome in outcomes if isinstance(outcome, Choice)]


def logprobs(outcomes: list[Choice | SwarmError]) -> list[TokenLogprob | None]:
    return [outcome.logprob for outcome in outcomes if isinstance(outcome, Choice)]


def test_a_batch_chooses_as_each_row_alone(parts: LocalParts) -> None:
    """Greedy and sampled rows share a batch without changing each other."""
    kinds = [SamplingParameters(), SAMPLED, SamplingParameters(repetition_penalty=9.0)] * 3

    together = choose_tokens(parts, [row_of(parts, i, kind) for i, kind in enumerate(kinds)])
    alone = [choose_tokens(parts, [row_of(parts, i, kind)]) for i, kind in enumerate(kinds)]

    assert token_ids(together) == [token_ids(outcome)[0] for outcome in alone]


def test_logprobs_are_there_for_the_rows_that_want_them(parts: LocalParts) -> None:
    """Those of the token that was chosen, among other rows as alone."""
    rows = [row_of(parts, 0), row_of(parts, 1), row_of(parts, 2)]
    rows[1].sampler_row.num_logprobs = 2
    alone = row_of(parts, 1)
    alone.sampler_row.num_logprobs = 2

    first, second, third = logprobs(choose_tokens(parts, rows))
    (expected,) = logprobs(choose_tokens(parts, [alone]))

    assert first is third is None
    assert second is not None
    assert expected is not None
    assert second.token_id == expected.token_id
    assert second.logprob == pytest.approx(expected.logprob, abs=1e-5)
    assert len(second.top) == 2


def test_each_token_comes_with_its_embedding(parts: LocalParts) -> None:
    """It is the input of the next step, `[1, 1, hidden_size]`."""
    (choice,) = choose_tokens(parts, [row_of(parts, 1)])

    assert isinstance(choice, Choice)
    assert torch.equal(choice.embedding, parts.embed(torch.tensor([[choice.token_id]])))


def test_a_row_that_is_not_finite_fails_alone(parts: LocalParts) -> None:
    """Its neighbours get the tokens they would have got without it."""
    bad = row_of(parts, 0)
    bad.hidden[3] = torch.nan

    outcomes = choose_tokens(parts, [row_of(parts, 1), bad, row_of(parts, 2)])

    assert isinstance(outcomes[1], BadHiddenStatesError)
    assert token_ids(outcomes) == token_ids(
        choose_tokens(parts, [row_of(parts, 1), row_of(parts, 2)])
    )


def test_a_row_that_breaks_the_batch_fails_alone(parts: LocalParts) -> None:
    """Hidden states of another size fit no product; the other rows are tried without them."""
    bad = HeadRow(torch.zeros(3), SamplerRow(SAMPLED, [], Random(0)))

    outcomes = choose_tokens(parts, [row_of(parts, 1), bad])

    assert isinstance(outcomes[0], Choice)
    assert isinstance(outcomes[1], HeadFailedError)
