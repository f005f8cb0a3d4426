"""Inference sessions on a chain of servers, driven by raw frames (PETALS_PROTOCOL §3)."""

import asyncio
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from swarm_protocol.argument_packing import structure_of
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.metadata import InferenceMetadata
from tests.integration.swarm_server.raw_session import RawSession, hidden_states, make_frame
from tests.integration.swarm_server.tiny_swarm import Reference, Swarm

TOLERANCE = 1e-4  # float32, summed in another order than transformers does


async def run_chain(swarm: Swarm, chunks: list[Tensor]) -> Tensor:
    """Run chunks through both servers and end the sessions."""
    sessions = [await RawSession.start(swarm.caller, server) for server in swarm.servers]
    outputs = []
    for chunk in chunks:
        hidden = chunk
        for session in sessions:
            hidden = await session.step(hidden)
        outputs.append(hidden)
    for session in sessions:
        await session.end()
    return torch.cat(outputs, 1)


@pytest.mark.parametrize("sizes", [[9], [4, 3, 1, 1], [1] * 9])
@pytest.mark.parametrize("batch", [1, 3])
async def test_a_chain_of_servers_equals_transformers(
    swarm: Swarm, reference: Reference, sizes: list[int], batch: int
) -> None:
    """However the sequence is cut into steps; afterwards all memory is back."""
    hidden = hidden_states(batch, 9)

    outputs = await run_chain(swarm, list(torch.split(hidden, sizes, dim=1)))

    torch.testing.assert_close(outputs, reference.run(hidden), atol=TOLERANCE, rtol=0)
    swarm.assert_memory_is_back()


async def test_sessions_at_once_give_what_they_give_alone(swarm: Swarm) -> None:
    """Eight sessions of different lengths, interleaved."""
    prompts = [hidden_states(1, 3 + index, seed=index) for index in range(8)]
    cut = [[prompt[:, :-2], prompt[:, -2:-1], prompt[:, -1:]] for prompt in prompts]
    alone = [await run_chain(swarm, chunks) for chunks in cut]

    together = await asyncio.gather(*(run_chain(swarm, chunks) for chunks in cut))

    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=0)
    swarm.assert_memory_is_back()


async def test_a_session_may_use_a_part_of_the_span(swarm: Swarm, reference: Reference) -> None:
    """It enters the second server in the middle, and pays for one block there."""
    hidden = hidden_states(1, 4)
    first, second = swarm.servers
    session = await RawSession.start(swarm.caller, first)
    middle = await session.step(hidden)
    parts = [
        await RawSession.start(swarm.caller, second, blocks=BlockRange(index, index + 1))
        for index in (2, 3)
    ]

    for part in parts:
        middle = await part.step(middle)

    torch.testing.assert_close(middle, reference.run(hidden), atol=TOLERANCE, rtol=0)
    assert first.kv_tokens_left == second.kv_tokens_left == 16384 - 32


async def test_steps_of_5_1_and_1_tokens_equal_one_of_7(swarm: Swarm) -> None:
    """Conformance check 16; on servers of the release in `tests/interop/test_petals_sessions`."""
    hidden = hidden_states(2, 7)

    cut = await run_chain(swarm, list(torch.split(hidden, [5, 1, 1], dim=1)))

    torch.testing.assert_close(cut, await run_chain(swarm, [hidden]), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
async def test_replies_are_in_the_servers_dtype(swarm: Swarm, dtype: torch.dtype) -> None:
    """Whatever dtype the caller sends."""
    session = await RawSession.start(swarm.caller, swarm.servers[0])

    reply = await session.step(hidden_states(1, 2).to(dtype))

    assert reply.dtype == torch.float32
    assert reply.shape == (1, 2, 64)


async def test_the_structure_of_arguments_may_be_absent_or_nil(swarm: Swarm) -> None:
    """Positional tensors, a structure, and a structure with nil for prompts agree."""
    hidden, order = hidden_states(2, 3), torch.tensor([1, 0])
    replies = []
    structures: list[object] = [None, structure_of(3), ((b"__T0", None, b"__T2"), {})]
    for structure in structures:
        session = await RawSession.start(swarm.caller, swarm.servers[0])
        session.opening = replace(session.opening, args_structure=structure)
        await session.step(hidden)
        replies.append(await session.step(hidden[:, :1], hypo_ids=order))

    assert torch.equal(replies[0], replies[1])
    assert torch.equal(replies[0], replies[2])


async def test_a_step_without_tokens_reserves_memory(swarm: Swarm) -> None:
    """The reply is as empty; memory is held until the end."""
    session = await RawSession.start(swarm.caller, swarm.servers[0], max_length=100)

    reply = await session.step(torch.empty(2, 0, 64))

    assert reply.shape == (2, 0, 64)
    assert swarm.servers[0].kv_tokens_left == 16384 - 200
    await session.end()
    swarm.assert_memory_is_back()


async def test_a_repeated_step_id_gets_no_second_reply(swarm: Swarm) -> None:
    """And changes nothing: the step after it sees one token, not two."""
    server, hidden = swarm.servers[0], hidden_states(1, 2)
    session = await RawSession.start(swarm.caller, server)
    await session.step(hidden[:, :1], step_id="same")

    await session.send(hidden[:, :1], step_id="same")
    reply = await session.step(hidden[:, 1:])

    undisturbed = await RawSession.start(swarm.caller, server)
    await undisturbed.step(hidden[:, :1])
    assert torch.equal(reply, await undisturbed.step(hidden[:, 1:]))


async def test_steps_need_no_ids(swarm: Swarm) -> None:
    """Neither of their own nor of the session: each one is answered."""
    session = await RawSession.start(swarm.caller, swarm.servers[0])
    opening, token = InferenceMetadata(max_length=2), hidden_states(1, 1)
    later = InferenceMetadata()

    for metadata in (opening, later):
        await session.stream.send(make_frame(session.uid, [token], metadata))
        assert (await session.receive()).shape == (1, 1, 64)


async def test_deep_prompts_join_the_first_tokens_before_each_block(swarm: Swarm) -> None:
    """At the step that carries them; equal to adding them between sessions of one block."""
    server, hidden = swarm.servers[0], hidden_states(2, 5)
    prompts = hidden_states(2, 3, seed=5).unsqueeze(1)  # [num_blocks, 1, 3, hidden_size]
    expected = hidden.clone()
    for index in range(2):
        expected[:, :3] += prompts[index]
        block = BlockRange(index, index + 1)
        alone = await RawSession.start(swarm.caller, server, blocks=block)
        expected = await alone.step(expected)

    session = await RawSession.start(swarm.caller, server)
    first = await session.step(hidden[:, :4], prompts=prompts)
    later = await session.step(hidden[:, 4:])

    torch.testing.assert_close(torch.cat([first, later], 1), expected, atol=TOLERANCE, rtol=0)


async def test_hypo_ids_let_rows_continue_others(swarm: Swarm) -> None:
    """After [1, 0] the outputs equal those of a session fed in swapped order."""
    server, order = swarm.servers[1], torch.tensor([1, 0])
    prefix, following = hidden_states(2, 4), hidden_states(2, 1, seed=1)
    session = await RawSession.start(swarm.caller, server)
    await session.step(prefix)

    reply = await session.step(following, hypo_ids=order)

    swapped = await RawSession.start(swarm.caller, server)
    await swapped.step(prefix[order])
    assert torch.equal(reply, await swapped.step(following))


async def test_rolling_back_equals_a_fresh_session(swarm: Swarm) -> None:
    """To the middle, to the start, and to the position itself."""
    server, hidden = swarm.servers[0], hidden_states(1, 6)
    session = await RawSession.start(swarm.caller, server, max_length=6)
    await session.step(hidden)

    for position in (4, 0, 6):
        reply = await session.step(hidden[:, position:], start_from_position=position)

        fresh = await RawSession.start(swarm.caller, server, max_length=6)
        expected = (await fresh.step(hidden))[:, position:]
        torch.testing.assert_close(reply, expected, atol=TOLERANCE, rtol=0)


async def test_a_large_prefill_goes_through_other_threads(
    swarm: Swarm, reference: Reference
) -> None:
    """Over 256 KiB, where packing would hold up the loop; the result is the same."""
    hidden = hidden_states(2, 600)
    session = await RawSession.start(swarm.caller, swarm.servers[0], max_length=600)
    second = await RawSession.start(swarm.caller, swarm.servers[1], max_length=600)

    reply = await second.step(await session.step(hidden))

    # Sums run over 600 tokens here instead of a dozen.
    torch.testing.assert_close(reply, reference.run(hidden), atol=1e-3, rtol=0)


async def test_a_probe_for_rollback_is_answered(swarm: Swarm) -> None:
    """A second token into a session of one, from the start: others would append, and refuse it."""
    session = await RawSession.start(swarm.caller, swarm.servers[0], max_length=1)
    token = hidden_states(1, 1)

    first = await session.step(token)
    again = await session.step(token, start_from_position=0)

    assert torch.equal(first, again)
