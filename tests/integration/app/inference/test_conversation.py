import asyncio
import json
from pathlib import Path
from shutil import copytree

import pytest

from app.inference.requests import FinishReason
from swarm_client.errors import MaxLengthExceededError, NoRouteError, SessionClosedError
from swarm_client.generation.parameters import SamplingParameters
from tests.harness.stuck_servers import deny_rollback
from tests.integration.app.inference.swarm import (
    LocalModel,
    Swarm,
    collect,
    request_of,
    swarm_of,
    text_of,
    until,
)


async def test_greedy_output_equals_transformers(swarm: Swarm, local_model: LocalModel) -> None:
    """Token for token, and its text is what decoding all of them gives."""
    prompt = await swarm.encode("The cat")
    expected = local_model.continue_greedily(prompt, 24)
    conversation = await swarm.open()

    events = await collect(conversation, request_of(prompt, 24))

    assert tuple(conversation.token_ids) == prompt + expected
    assert text_of(events) == swarm.decode(expected)
    assert sum(event.num_tokens for event in events) == 24


async def test_only_the_last_event_has_a_finish_reason(swarm: Swarm) -> None:
    """All have the timings of their step: one number for each of the two hops."""
    conversation = await swarm.open()

    events = await collect(conversation, request_of(await swarm.encode("Hi"), 3))

    assert [event.finish_reason for event in events] == [None, None, FinishReason.LENGTH]
    assert all(event.timings and len(event.timings.hops) == 2 for event in events)


async def test_a_seed_repeats_a_generation(swarm: Swarm) -> None:
    """Another seed gives another one."""
    prompt = await swarm.encode("Hi")

    async def sample(seed: int) -> list[int]:
        sampling = SamplingParameters(do_sample=True, seed=seed)
        conversation = await swarm.open()
        await collect(conversation, request_of(prompt, 16, sampling=sampling))
        await conversation.close()
        return list(conversation.token_ids)

    assert await sample(1) == await sample(1) != await sample(2)


async def test_a_second_generation_goes_on_where_the_first_ended(
    swarm: Swarm, local_model: LocalModel
) -> None:
    """Three calls, one with a prompt, equal transformers on the whole context."""
    first, second = await swarm.encode("The cat"), await swarm.encode(" sat")
    conversation = await swarm.open()

    await collect(conversation, request_of(first, 5))
    await collect(conversation, request_of((), 4))
    context = (*first, *local_model.continue_greedily(first, 9))
    assert tuple(conversation.token_ids) == context

    await collect(conversation, request_of(second, 6))
    expected = local_model.continue_greedily(context + second, 6)
    assert tuple(conversation.token_ids) == context + second + expected
    assert conversation.position == len(conversation.token_ids) - 1


async def test_an_empty_conversation_starts_with_the_token_that_starts_texts(
    swarm: Swarm, local_model: LocalModel
) -> None:
    """As in transformers, which does so without a prompt."""
    conversation = await swarm.open()

    await collect(conversation, request_of((), 4))

    assert tuple(conversation.token_ids) == (1, *local_model.continue_greedily([1], 4))


async def test_a_token_that_ends_texts_ends_the_generation(
    tiny_llama: Path, tmp_path: Path, local_model: LocalModel
) -> None:
    """With STOP, and whatever the tokens that were asked for."""
    model = copytree(tiny_llama, tmp_path / "ending")
    async with swarm_of(model) as plain:
        prompt = await plain.encode("The cat")
    expected = local_model.continue_greedily(prompt, 5)
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": expected[-1]}))

    async with swarm_of(model) as swarm:
        conversation = await swarm.open()
        events = await collect(conversation, request_of(prompt, 9))

    assert tuple(conversation.token_ids) == prompt + expected
    assert events[-1].finish_reason == FinishReason.STOP


async def test_reaching_the_maximum_length_ends_the_generation(swarm: Swarm) -> None:
    """With LENGTH; there is no room for another generation then."""
    prompt = await swarm.encode("Hi")
    conversation = await swarm.open(max_length=5)

    events = await collect(conversation, request_of(prompt, 9))

    assert [event.finish_reason for event in events] == [None, None, FinishReason.LENGTH]
    with pytest.raises(MaxLengthExceededError, match="prefix 5 \\+ current 1 exceeds"):
        await collect(conversation, request_of(()))


async def test_a_prompt_that_does_not_fit_reaches_no_server(swarm: Swarm) -> None:
    """It must leave room for one new token; the conversation is closed, as after all errors."""
    conversation = await swarm.open(max_length=4)

    with pytest.raises(MaxLengthExceededError):
        await collect(conversation, request_of((7, 8, 9, 10)))

    assert conversation.position == 0
    await swarm.until_idle()
    with pytest.raises(SessionClosedError):
        await collect(conversation, request_of((7,)))


async def test_a_stop_text_is_found_across_tokens(swarm: Swarm, local_model: LocalModel) -> None:
    """It is cut off, and the context ends with it."""
    prompt = await swarm.encode("The cat")
    text = swarm.decode(local_model.continue_greedily(prompt, 24))
    conversation = await swarm.open()

    events = await collect(conversation, request_of(prompt, 24, stop=("never", text[1:4])))

    assert text_of(events) == text[:1]
    assert events[-1].finish_reason == FinishReason.STOP
    assert swarm.decode(conversation.token_ids) == "The cat" + text[:4]


async def test_a_stop_text_within_a_token_cuts_the_context(
    pairs_swarm: Swarm, local_model: LocalModel
) -> None:
    """What the token says behind the stop text is forgotten, and another prompt follows."""
    prompt, second = await pairs_swarm.encode("abcd"), await pairs_swarm.encode("ponm")
    text = pairs_swarm.decode(local_model.continue_greedily(prompt, 12))
    odd = next(i for i in range(7, 24, 2) if text[i - 2 : i] not in text[: i - 1])
    conversation = await pairs_swarm.open()

    events = await collect(
        conversation, request_of(prompt, 12, stop=(text[odd - 2 : odd],), keeps_stop=True)
    )
    context = tuple(conversation.token_ids)
    assert text_of(events) == text[:odd]
    assert pairs_swarm.decode(context) == "abcd" + text[:odd]

    await collect(conversation, request_of(second, 6))
    expected = local_model.continue_greedily(context + second, 6)
    assert tuple(conversation.token_ids) == context + second + expected


@pytest.mark.parametrize("can_roll_back", [True, False])
async def test_a_stop_text_found_a_token_late_takes_that_token_back(
    swarm: Swarm, local_model: LocalModel, monkeypatch: pytest.MonkeyPatch, can_roll_back: bool
) -> None:
    """A broken character is known only with the next token; the servers have run it by then.

    They roll back; where they cannot, they are sent what is left once more.
    """
    if not can_roll_back:
        deny_rollback(monkeypatch)
    prompt = await swarm.encode("The cat")
    text = swarm.decode(local_model.continue_greedily(prompt, 12)).partition("\ufffd")[0]
    conversation = await swarm.open()

    await collect(conversation, request_of(prompt, 12, stop=("\ufffd",)))
    context = tuple(conversation.token_ids)
    assert context == prompt + await swarm.encode(text + "\ufffd")
    assert conversation.position == len(context) - 3

    await collect(conversation, request_of((), 6))
    assert tuple(conversation.token_ids) == context + local_model.continue_greedily(context, 6)


async def test_leaving_in_the_middle_frees_the_servers(swarm: Swarm) -> None:
    """Closing the generator is enough."""
    conversation = await swarm.open(max_length=500)
    events = conversation.generate(request_of(await swarm.encode("Hi"), 400))
    await anext(events)
    assert all(server.num_sessions == 1 for server in swarm.servers)

    await events.aclose()

    await swarm.until_idle()


async def test_leaving_after_the_last_event_keeps_the_conversation(swarm: Swarm) -> None:
    """Who breaks at the finish reason closes a generator that has not returned yet."""
    conversation = await swarm.open()
    events = conversation.generate(request_of(await swarm.encode("Hi"), 1))
    assert (await anext(events)).finish_reason == FinishReason.LENGTH
    await events.aclose()

    assert len(await collect(conversation, request_of((), 2))) == 2


async def test_being_cancelled_in_the_prefill_frees_the_servers(swarm: Swarm) -> None:
    """Wherever the step is at that moment."""
    conversation = await swarm.open(max_length=500)
    prompt = await swarm.encode("x" * 400)
    task = asyncio.create_task(collect(conversation, request_of(prompt)))
    await until(lambda: any(server.num_sessions for server in swarm.servers))

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await swarm.until_idle()


async def test_being_cancelled_anywhere_frees_the_servers_and_the_replicas(swarm: Swarm) -> None:
    """At each turn of the event loop, from before the first step to after several tokens."""
    prompt = await swarm.encode("Hi")
    for num_turns in range(60):
        conversation = await swarm.open()
        task = asyncio.create_task(collect(conversation, request_of(prompt, 60)))
        for _ in range(num_turns):
            await asyncio.sleep(0)

        task.cancel()
        await asyncio.wait([task])
        await conversation.close()

    await swarm.until_idle()
    assert swarm.engine.model(swarm.model_id).replicas.num_waiting == 0


async def test_closing_while_generating_ends_the_generation(swarm: Swarm) -> None:
    """By an error, and the servers' memory is free."""
    conversation = await swarm.open(max_length=500)
    events = conversation.generate(request_of(await swarm.encode("Hi"), 400))
    await anext(events)
    await conversation.close()

    with pytest.raises(SessionClosedError):
        await anext(events)
    await swarm.until_idle()


@pytest.mark.parametrize("num_before", [1, 20])
async def test_a_lost_server_does_not_end_a_generation_if_another_one_stands_by(
    tiny_llama: Path, local_model: LocalModel, num_before: int
) -> None:
    """Its tokens are those of an undisturbed one, each of them once, and so are the next ones."""
    async with swarm_of(tiny_llama, "2:4") as swarm:
        prompt = await swarm.encode("The cat")
        conversation = await swarm.open()
        events = conversation.generate(request_of(prompt, 30))
        num_tokens = 0
        async for event in events:
            num_tokens += event.num_tokens
            if num_tokens == num_before:
                used = next(server for server in swarm.servers[1:] if server.num_sessions)
                swarm.network.cut(used.peer_id)
        await collect(conversation, request_of((), 6))

        assert num_tokens == 30
        assert tuple(conversation.token_ids) == prompt + local_model.continue_greedily(prompt, 36)


async def test_a_lost_server_that_nobody_replaces_is_an_error_and_the_engine_goes_on(
    swarm: Swarm,
) -> None:
    """It names the blocks; another conversation works as soon as the server is back."""
    prompt = await swarm.encode("Hi")
    conversation = await swarm.open(max_length=500)
    events = conversation.generate(request_of(prompt, 400))
    await anext(events)

    swarm.network.cut(swarm.servers[1].peer_id)
    with pytest.raises(NoRouteError, match="2:4"):
        async for _ in events:
            pass
    swarm.network.heal(swarm.servers[1].peer_id)

    await swarm.until_idle()
    again = await swarm.open()
    assert len(await collect(again, request_of(prompt, 3))) == 3
