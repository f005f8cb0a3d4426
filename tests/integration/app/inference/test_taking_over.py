"""A generation that goes on in another conversation equals the one that was not disturbed."""

from dataclasses import replace

import pytest

from app.inference.requests import FinishReason, GenerationRequest
from swarm_client.generation.parameters import SamplingParameters
from tests.integration.app.inference.swarm import Swarm, collect, request_of, text_of

SAMPLED = SamplingParameters(
    do_sample=True, temperature=1.5, seed=11, repetition_penalty=1.1, frequency_penalty=0.6
)
NUM_TOKENS = 24


async def undisturbed(swarm: Swarm, request: GenerationRequest) -> tuple[list[int], list[str]]:
    """Return the generated tokens, and the text of each."""
    conversation = await swarm.open()
    events = await collect(conversation, request)
    await conversation.close()
    token_ids = [token_id for event in events for token_id in event.token_ids]
    return token_ids, [event.text for event in events]


@pytest.mark.parametrize("sampling", [SamplingParameters(), SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("num_made", [0, 1, 13, NUM_TOKENS - 1])
async def test_tokens_and_texts_go_on_as_if_nothing_had_happened(
    swarm: Swarm, sampling: SamplingParameters, num_made: int
) -> None:
    """Random numbers, penalties and half characters included; the events are the missing ones."""
    request = request_of(await swarm.encode("The cat"), NUM_TOKENS, sampling=sampling)
    token_ids, texts = await undisturbed(swarm, request)
    conversation = await swarm.open()

    events = await collect(conversation, replace(request, produced_ids=tuple(token_ids[:num_made])))

    assert [event.token_ids[0] for event in events] == token_ids[num_made:]
    assert [event.text for event in events] == texts[num_made:]
    assert events[-1].finish_reason is FinishReason.LENGTH
    assert list(conversation.token_ids) == [*request.prompt_ids, *token_ids]


async def test_a_stop_text_that_was_half_made_is_found(swarm: Swarm) -> None:
    """Its first part came from the other conversation, and the context is cut the same way."""
    request = request_of(await swarm.encode("The cat"), NUM_TOKENS, sampling=SAMPLED)
    token_ids, texts = await undisturbed(swarm, request)
    stop = "".join(texts[10:13])
    stopping = replace(request, stop=(stop,), keeps_stop=True)
    whole = await swarm.open()
    expected = await collect(whole, stopping)
    conversation = await swarm.open()

    events = await collect(conversation, replace(stopping, produced_ids=tuple(token_ids[:11])))

    assert text_of(events) == text_of(expected[11:])
    assert events[-1].finish_reason is FinishReason.STOP
    assert list(conversation.token_ids) == list(whole.token_ids)


async def test_a_conversation_rebuilt_from_its_tokens_goes_on_in_the_next_turn(
    swarm: Swarm,
) -> None:
    """What was said before comes as a part of the prompt."""
    first, second = await swarm.encode("The cat"), await swarm.encode(" sat")
    whole = await swarm.open()
    await collect(whole, request_of(first, 5))
    context = tuple(whole.token_ids)
    expected = await collect(whole, request_of(second, 6))
    rebuilt = await swarm.open()

    events = await collect(rebuilt, request_of(context + second, 6))

    assert text_of(events) == text_of(expected)
    assert list(rebuilt.token_ids) == list(whole.token_ids)
