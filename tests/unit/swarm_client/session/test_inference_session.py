"""Sessions: steps along the route, and what happens when a hop fails."""

import asyncio
import gc
import weakref
from dataclasses import replace

import pytest
import torch

from swarm_client.errors import (
    CapacityError,
    MaxLengthExceededError,
    NoRouteError,
    SessionClosedError,
    SessionLostError,
)
from swarm_protocol.errors import DeadlineExceededError, PeerMisbehavedError
from swarm_protocol.identifiers import BlockRange
from tests.unit.swarm_client.scripted_server import expected_output
from tests.unit.swarm_client.scripted_swarm import SETTINGS, eventually, hidden_states, swarm_of


async def test_a_step_passes_all_blocks_once_and_advances() -> None:
    """The output is that of every block, in the caller's dtype."""
    async with swarm_of(["0:1", "1:3", "3:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)

        hidden = hidden_states(2)
        output = await session.step(hidden)

        assert output.equal(expected_output(hidden))
        assert session.position == 2
        assert [str(hop.blocks) for hop in session.route] == ["0:1", "1:3", "3:4"]
        assert [timing.peer for timing in session.last_step.hops] == ["s0", "s1", "s2"]


async def test_each_step_has_a_name_of_its_own() -> None:
    """Servers tell steps apart by it."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)

        await session.step(hidden_states(1))
        await session.step(hidden_states(1))

        for server in swarm.servers:
            assert len({step.step_id for step in server.steps}) == 2
            assert len({step.session_id for step in server.steps}) == 1


async def test_a_server_is_entered_in_mid_span() -> None:
    """The uid names only the blocks that are wanted of it."""
    async with swarm_of(["0:3", "1:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)

        hidden = hidden_states(1)

        assert (await session.step(hidden)).equal(expected_output(hidden))
        assert [str(hop.blocks) for hop in session.route] == ["0:3", "3:4"]


async def test_a_long_prefill_goes_in_chunks() -> None:
    """Position counts all of it; the caller sees one step."""
    async with swarm_of(["0:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)

        hidden = hidden_states(10)
        output = await session.step(hidden)

        assert output.equal(expected_output(hidden))
        assert [len(inputs[0]) for inputs in swarm.servers[0].inputs] == [4, 4, 2]
        assert session.position == 10
        assert [step.max_length for step in swarm.servers[0].steps] == [10, None, None]


async def test_deep_prompts_are_cut_by_hop_and_go_with_the_first_chunk() -> None:
    """Each server gets those of its blocks, as the second argument."""
    async with swarm_of(["0:1", "1:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)
        prompts = torch.randn(4, 1, 2, 8)

        await session.step(hidden_states(6), prompts=prompts)

        for server, blocks in zip(swarm.servers, (slice(0, 1), slice(1, 4)), strict=True):
            (first, _), (later, _) = server.extras
            assert first is not None
            assert first.equal(prompts[blocks])
            assert later is not None
            assert later.numel() == 0


async def test_hypo_ids_go_to_every_hop() -> None:
    """As the third argument, int64 even when there are none."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10, batch_size=2)

        await session.step(hidden_states(1, batch_size=2))
        await session.step(hidden_states(1, batch_size=2), hypo_ids=torch.tensor([1, 0]))

        for server in swarm.servers:
            (_, absent), (_, present) = server.extras
            assert absent is not None
            assert absent.dtype == torch.int64
            assert absent.numel() == 0
            assert present is not None
            assert present.tolist() == [1, 0]


async def test_a_narrow_server_gets_its_own_dtype_and_the_caller_gets_theirs() -> None:
    """Half the bytes on the wire, and no other rounding than the server's."""
    async with swarm_of(["0:4"]) as swarm:
        server = swarm.servers[0]
        server.description = replace(server.description, dtype=torch.bfloat16)
        session = await swarm.model.open_session(max_length=10)

        output = await session.step(hidden_states(1))

        assert swarm.servers[0].inputs[0].dtype == torch.bfloat16
        assert output.dtype == torch.float32


async def test_too_many_tokens_are_refused_before_anything_is_sent() -> None:
    """And the session stays open."""
    async with swarm_of(["0:4"]) as swarm:
        session = await swarm.model.open_session(max_length=3)

        with pytest.raises(MaxLengthExceededError):
            await session.step(hidden_states(4))

        assert swarm.servers[0].steps == []
        await session.step(hidden_states(3))


async def test_a_silent_hop_is_lost_at_the_deadline() -> None:
    """No wait on a peer is without end."""
    async with swarm_of(["0:4"], SETTINGS.model_copy(update={"request_timeout_s": 0.05})) as swarm:
        session = await swarm.model.open_session(max_length=10)
        await session.step(hidden_states(1))
        swarm.servers[0].is_silent = True

        with pytest.raises(NoRouteError) as gap:
            await session.step(hidden_states(1))

        assert gap.value.__cause__ is not None
        assert isinstance(gap.value.__cause__.__cause__, DeadlineExceededError)


@pytest.mark.parametrize(
    "damage",
    [
        lambda hidden: hidden[:, :, 1:],
        lambda hidden: hidden.to(torch.int64),
        lambda hidden: hidden * float("nan"),
        lambda hidden: None,
    ],
    ids=["shape", "dtype", "not finite", "ended"],
)
async def test_a_reply_that_fails_a_check_loses_the_server(damage: object) -> None:
    """Shape, dtype, finite values, and an answer at all."""
    async with swarm_of(["0:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)
        await session.step(hidden_states(1))
        swarm.servers[0].transform = damage  # type: ignore[assignment]

        with pytest.raises(NoRouteError) as gap:
            await session.step(hidden_states(1))

        assert gap.value.__cause__ is not None
        assert isinstance(gap.value.__cause__.__cause__, PeerMisbehavedError)
        assert swarm.banned() == ["s0"]


@pytest.mark.parametrize(
    "text",
    [
        "Could not allocate 5 bytes immediately: out of memory",
        "Cannot allocate KV cache for 9 tokens, max = 8",
        "this server runs its maximum of 4 sessions",
    ],
)
async def test_a_server_without_memory_is_not_banned(text: str) -> None:
    """It is not broken; the caller may come back later."""
    async with swarm_of(["0:4"]) as swarm:
        swarm.servers[0].fail_with(text)
        session = await swarm.model.open_session(max_length=10)

        with pytest.raises(CapacityError):
            await session.step(hidden_states(1))

        assert swarm.banned() == []


async def test_a_first_step_that_fails_moves_to_another_route() -> None:
    """Nothing is lost yet: servers refuse sessions in their first step."""
    async with swarm_of(["0:2", "2:4", "2:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)
        chosen = session.route[1].peer
        spare = {"s1": "s2", "s2": "s1"}[chosen]
        swarm.servers[int(chosen[1])].fail_with("Could not allocate 5 bytes immediately")

        hidden = hidden_states(6)
        output = await session.step(hidden)

        assert output.equal(expected_output(hidden))
        assert session.position == 6
        assert [hop.peer for hop in session.route] == ["s0", spare]


async def test_without_another_route_the_first_failure_names_the_gap() -> None:
    """A lost peer leaves a gap; one without memory is what the caller hears of."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        swarm.servers[1].fail_with("the server failed to compute this step")
        session = await swarm.model.open_session(max_length=10)

        with pytest.raises(NoRouteError) as lost:
            await session.step(hidden_states(1))

        assert lost.value.missing == (BlockRange(2, 4),)
        assert isinstance(lost.value.__cause__, SessionLostError)


async def test_cancelling_a_step_drops_all_streams() -> None:
    """A caller who leaves frees the servers' memory at once."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)
        await session.step(hidden_states(1))
        swarm.servers[1].is_silent = True
        step = asyncio.create_task(session.step(hidden_states(1)))
        await eventually(lambda: len(swarm.servers[1].steps) == 2)

        step.cancel()
        await asyncio.wait([step])

        assert step.cancelled()
        assert swarm.banned() == []
        assert session.position == 1
        await eventually(swarm.is_idle)


async def test_closing_says_goodbye_to_every_server() -> None:
    """Twice is no harm, and so is closing by leaving the context."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        async with await swarm.model.open_session(max_length=10) as session:
            await session.step(hidden_states(1))
        await session.close()

        assert [server.num_ended for server in swarm.servers] == [1, 1]


async def test_a_session_that_has_ended_keeps_no_inputs() -> None:
    """Whoever holds it, a cycle that waits for the collector too, holds no hidden states."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)
        await session.step(hidden_states(2))
        inputs = weakref.ref(session._hops[0].history._steps[0].hidden)
        gc.disable()
        try:
            await session.close()
        finally:
            gc.enable()

    assert session.history_bytes == 0
    assert inputs() is None


async def test_closing_is_bounded_in_time_and_never_raises() -> None:
    """A server that does not answer cannot hold the caller."""
    async with swarm_of(["0:2", "2:4"], SETTINGS.model_copy(update={"close_timeout_s": 0.05})) as s:
        session = await s.model.open_session(max_length=10)
        await session.step(hidden_states(1))
        s.servers[0].is_silent = True
        s.network.cut(s.servers[1].peer)

        await session.close()


async def test_closing_during_a_step_ends_the_step_without_blame() -> None:
    """The peer did nothing wrong."""
    async with swarm_of(["0:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)
        await session.step(hidden_states(1))
        (pipe,) = swarm.servers[0].node.pipes
        swarm.servers[0].is_silent = True
        step = asyncio.create_task(session.step(hidden_states(1)))
        await eventually(lambda: len(swarm.servers[0].steps) == 2)

        await session.close()
        pipe.break_off()

        with pytest.raises(SessionClosedError):
            await step
        assert swarm.banned() == []


async def test_a_session_takes_one_step_at_a_time() -> None:
    """Two at once would mix their replies up."""
    async with swarm_of(["0:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)
        first = asyncio.create_task(session.step(hidden_states(1)))
        await asyncio.sleep(0)

        with pytest.raises(RuntimeError, match="one step at a time"):
            await session.step(hidden_states(1))

        await first
