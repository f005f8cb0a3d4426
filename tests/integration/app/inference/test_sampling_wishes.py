"""What a request wishes of its sampling reaches the sampler, and comes back in the events."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from app.inference.conversation import SwarmConversation
from app.inference.errors import NoTokenAllowedError
from app.inference.requests import FinishReason, OutputConstraint
from swarm_client.errors import InvalidParametersError
from swarm_client.generation.parameters import SamplingParameters
from tests.integration.app.inference.swarm import LocalModel, Swarm, collect, request_of, text_of

NUM_TOKENS = 24
CONSTRAINT = OutputConstraint("choice", "[]")


async def generated(swarm: Swarm, num_tokens: int = NUM_TOKENS, **fields: Any) -> list[int]:
    conversation = await swarm.open()
    prompt = await swarm.encode("The cat")
    await collect(conversation, request_of(prompt, num_tokens, **fields))
    await conversation.close()
    return list(conversation.token_ids[len(prompt) :])


@pytest.mark.parametrize("keeps_stop", [True, False])
async def test_a_stop_token_ends_the_output(
    swarm: Swarm, local_model: LocalModel, keeps_stop: bool
) -> None:
    """It counts and stays in the context; its text is shown to those who keep stop texts."""
    prompt = await swarm.encode("The cat")
    expected = local_model.continue_greedily(prompt, NUM_TOKENS)
    stop_id = next(
        token_id
        for index, token_id in enumerate(expected)
        if index > 3 and token_id not in expected[:index] and swarm.decode([token_id]).isascii()
    )
    num_tokens = expected.index(stop_id) + 1
    conversation = await swarm.open()

    events = await collect(
        conversation,
        request_of(prompt, NUM_TOKENS, stop_token_ids=(stop_id,), keeps_stop=keeps_stop),
    )

    assert tuple(conversation.token_ids) == prompt + expected[:num_tokens]
    assert events[-1].finish_reason is FinishReason.STOP
    shown = expected[: num_tokens if keeps_stop else num_tokens - 1]
    assert text_of(events) == swarm.decode(shown)


async def test_the_models_own_end_may_be_ignored(swarm: Swarm) -> None:
    """A bias makes it the likeliest token; only a stop token of the request ends the output."""
    (eos,) = swarm.engine.model(swarm.model_id).facts.eos_token_ids
    certain = SamplingParameters(logit_bias=((eos, 100.0),))

    assert await generated(swarm, sampling=certain) == [eos]
    assert await generated(swarm, 3, sampling=certain, ignore_eos=True) == [eos] * 3
    stopping: dict[str, Any] = {"ignore_eos": True, "stop_token_ids": (eos,)}
    assert await generated(swarm, 3, sampling=certain, **stopping) == [eos]


async def test_logprobs_are_those_of_the_model_itself(
    swarm: Swarm, local_model: LocalModel
) -> None:
    """Of tokens that were sampled hot, with a penalty: neither changes them."""
    prompt = await swarm.encode("The cat")
    sampling = SamplingParameters(
        do_sample=True, temperature=2.0, seed=3, presence_penalty=2.0, top_p=0.9
    )
    conversation = await swarm.open()

    events = await collect(conversation, request_of(prompt, 8, sampling=sampling, num_logprobs=3))

    ids = torch.tensor([list(conversation.token_ids)])
    with torch.no_grad():
        expected = local_model.model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
    for event, row in zip(events, expected, strict=True):
        (logprob,) = event.logprobs
        assert (logprob.token_id,) == event.token_ids
        assert logprob.logprob == pytest.approx(float(row[logprob.token_id]), abs=1e-3)
        values = [value for _, value in logprob.top]
        assert values == pytest.approx(row.topk(3).values.tolist(), abs=1e-3)


async def test_who_asks_for_no_logprobs_gets_none(swarm: Swarm) -> None:
    """Though none beside the token itself is a wish, too."""
    conversation = await swarm.open()

    events = await collect(conversation, request_of((7,), 2))
    wished = await collect(conversation, request_of((), 2, num_logprobs=0))

    assert [event.logprobs for event in events] == [(), ()]
    assert [event.logprobs[0].top for event in wished] == [(), ()]


async def test_penalties_count_as_the_output_grows(swarm: Swarm, local_model: LocalModel) -> None:
    """Greedy output equals transformers' with OpenAI's formula as one more processor."""
    prompt = await swarm.encode("The cat")
    sampling = SamplingParameters(
        repetition_penalty=1.1, frequency_penalty=0.7, presence_penalty=0.4
    )

    def penalize(ids: Tensor, scores: Tensor) -> Tensor:
        counts = torch.bincount(ids[0, len(prompt) :], minlength=scores.shape[1])
        return scores - 0.7 * counts - 0.4 * (counts > 0)

    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.1), penalize])
    expected = local_model.model.generate(
        torch.tensor([list(prompt)]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=NUM_TOKENS,
        do_sample=False,
        eos_token_id=None,
        logits_processor=processors,
    )[0, len(prompt) :]

    assert await generated(swarm, sampling=sampling, ignore_eos=True) == expected.tolist()


async def test_a_seed_gives_its_tokens_whatever_else_is_generated(swarm: Swarm) -> None:
    """Alone, and among others with other wishes, which share the head's batches."""
    seeded = SamplingParameters(do_sample=True, temperature=1.5, top_p=0.9, seed=5)
    others: list[dict[str, Any]] = [
        {"sampling": SamplingParameters(do_sample=True, frequency_penalty=1.0)},
        {"sampling": SamplingParameters(repetition_penalty=1.5), "num_logprobs": 5},
        {"sampling": SamplingParameters(logit_bias=((9, 50.0),))},
    ]
    alone = await generated(swarm, sampling=seeded)

    together = await asyncio.gather(
        generated(swarm, sampling=seeded), *(generated(swarm, **fields) for fields in others)
    )

    assert together[0] == alone


async def test_a_bias_for_a_token_that_the_model_lacks_is_refused(swarm: Swarm) -> None:
    """By name, before anything is computed."""
    sampling = SamplingParameters(logit_bias=((10**6, 1.0),))

    with pytest.raises(InvalidParametersError, match="logit_bias"):
        await generated(swarm, sampling=sampling)


class Dictation:
    """A `TokenMatcher` that allows a few given tokens at each place, and then nothing."""

    def __init__(self, allowed: Sequence[set[int]]) -> None:
        self.allowed = allowed
        self.accepted: list[int] = []
        self.filled_by: set[int] = set()

    @property
    def is_finished(self) -> bool:
        return len(self.accepted) == len(self.allowed)

    def fill_mask(self, out: Tensor) -> None:
        self.filled_by.add(threading.get_ident())
        bits = torch.zeros(len(out) * 32, dtype=torch.int64)
        bits[list(self.allowed[len(self.accepted)])] = 1
        words = (bits.view(-1, 32) << torch.arange(32)).sum(dim=1)
        out.copy_(torch.where(words < 2**31, words, words - 2**32))

    def accept(self, token_id: int) -> None:
        assert token_id in self.allowed[len(self.accepted)]
        self.accepted.append(token_id)


@dataclass
class Dictations:
    """A `MatcherSource` of one matcher."""

    dictation: Dictation

    async def prepare(self, constraint: OutputConstraint, tenant: str = "") -> None:
        """There is nothing to find out."""

    async def close(self) -> None:
        """There is nothing to free."""

    async def matcher(self, constraint: OutputConstraint) -> Dictation:
        assert constraint == CONSTRAINT
        return self.dictation


async def constrained(swarm: Swarm, dictation: Dictation, **fields: Any) -> list[int]:
    model = replace(swarm.engine.model(swarm.model_id), matchers=Dictations(dictation))
    conversation = await SwarmConversation.open(model, max_length=64)
    try:
        request = request_of((7, 8), NUM_TOKENS, constraint=CONSTRAINT, **fields)
        events = await collect(conversation, request)
    finally:
        await conversation.close()
    assert events[-1].finish_reason is FinishReason.STOP
    return list(conversation.token_ids[2:])


@pytest.mark.parametrize("do_sample", [True, False])
async def test_a_matcher_rules_the_output_and_ends_it(swarm: Swarm, do_sample: bool) -> None:
    """Its masks are made by other threads than the event loop's; it is told every token."""
    dictation = Dictation([{40, 41}, {31}, {32, 63, 64}, {90}])

    output = await constrained(
        swarm, dictation, sampling=SamplingParameters(do_sample=do_sample, temperature=9.0)
    )

    assert len(output) == 4
    assert dictation.accepted == output
    assert threading.get_ident() not in dictation.filled_by


async def test_a_matcher_is_told_what_somebody_else_has_produced(swarm: Swarm) -> None:
    """So a generation that is taken over goes on in the midst of its constraint."""
    dictation = Dictation([{40}, {41}, {42}])

    output = await constrained(swarm, dictation, produced_ids=(40, 41))

    assert output == dictation.accepted == [40, 41, 42]


async def test_a_matcher_that_allows_nothing_ends_the_generation_with_an_error(
    swarm: Swarm,
) -> None:
    """Never with a token that it forbids."""
    with pytest.raises(NoTokenAllowedError):
        await constrained(swarm, Dictation([{40}, set()]))

    await swarm.until_idle()
