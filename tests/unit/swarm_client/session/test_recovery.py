"""Servers lost in a session: who takes over, and what is sent to whom."""

import asyncio

import pytest
import torch

from swarm_client.errors import CapacityError, NoRouteError, SessionClosedError, SessionLostError
from swarm_client.session import InferenceSession
from swarm_protocol.identifiers import BlockRange
from tests.unit.swarm_client.scripted_server import ScriptedServer, expected_output
from tests.unit.swarm_client.scripted_swarm import (
    SETTINGS,
    Swarm,
    eventually,
    hidden_states,
    swarm_of,
)

THREE = ["0:1", "1:3", "3:4"]


def tokens_received(server: ScriptedServer) -> list[int]:
    return [inputs.shape[1] for inputs in server.inputs]


async def open_then_join(
    swarm: Swarm, *splits: str
) -> tuple[InferenceSession, list[ScriptedServer]]:
    """Open a session, then let servers join that it may move to."""
    session = await swarm.model.open_session(max_length=60)
    standby = [
        await ScriptedServer.start(swarm.network, f"standby{index}", blocks)
        for index, blocks in enumerate(splits)
    ]
    await swarm.model.refresh()
    return session, standby


@pytest.mark.parametrize("splits", [["1:3"], ["1:2", "2:3"]], ids=["one", "two"])
@pytest.mark.parametrize("position", [0, 1, 50])
async def test_check_26_others_receive_only_the_new_token(position: int, splits: list[str]) -> None:
    """One server, or several, are sent what the lost one had been sent; its peer is banned."""
    async with swarm_of(THREE) as swarm:
        session, standby = await open_then_join(swarm, *splits)
        tokens = hidden_states(position + 1)
        if position:
            await session.step(tokens[:, :position])
        seen = [len(server.inputs) for server in swarm.servers]
        swarm.network.cut(swarm.servers[1].peer)

        output = await session.step(tokens[:, position:])

        assert output.equal(expected_output(tokens[:, position:]))
        assert [hop.peer for hop in session.route] == ["s0", *[s.peer for s in standby], "s2"]
        for index in (0, 2):
            assert tokens_received(swarm.servers[index])[seen[index] :] == [1]
        inputs = expected_output(tokens, BlockRange(0, 1))
        for server in standby:
            assert torch.cat(server.inputs, dim=1).equal(inputs)
            inputs = expected_output(inputs, server.blocks)
            assert {step.start_from_position for step in server.steps} == {None}
        assert swarm.banned() == ["s1"]


async def test_check_27_rows_are_replayed_as_they_were_reordered() -> None:
    """With no order of their own; the next step brings the next order."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        session, (standby,) = await open_then_join(swarm, "2:4")
        first, second = hidden_states(2, batch_size=2), hidden_states(1, batch_size=2)
        await session.step(first)
        await session.step(second, hypo_ids=torch.tensor([1, 1]))
        swarm.network.cut(swarm.servers[1].peer)
        await session.step(second, hypo_ids=torch.tensor([1, 0]))

        replayed, last = standby.inputs
        half = BlockRange(0, 2)
        expected = torch.cat([first[[1, 1]], second], dim=1)
        assert replayed.equal(expected_output(expected, half))
        assert last.equal(expected_output(second, half))
        orders = [extras[1].tolist() for extras in standby.extras if extras[1] is not None]
        assert orders == [[], [1, 0]]


async def test_check_27_each_successor_gets_the_deep_prompts_of_its_blocks() -> None:
    """With the first tokens of the replay, and never again."""
    async with swarm_of(["0:1", "1:4"]) as swarm:
        session, standby = await open_then_join(swarm, "1:2", "2:4")
        prompts = torch.arange(4.0)[:, None, None, None].expand(4, 1, 2, 8)
        await session.step(hidden_states(6), prompts=prompts)
        swarm.network.cut(swarm.servers[1].peer)
        await session.step(hidden_states(1))

        for server in standby:
            first, *later = [extras[0] for extras in server.extras]
            assert first is not None
            assert first.equal(prompts[server.blocks.start : server.blocks.end])
            assert all(tensor is None or tensor.numel() == 0 for tensor in later)


async def test_check_29_a_lost_peer_is_not_tried_again_even_if_it_could_be_reached() -> None:
    """Within its ban another one is used, also by new sessions."""
    async with swarm_of(["0:4"]) as swarm:
        session, _ = await open_then_join(swarm, "0:4")
        await session.step(hidden_states(1))
        swarm.servers[0].fail_with("a fault of this one")
        await session.step(hidden_states(1))
        again = await swarm.model.open_session(max_length=10)

        assert session.route[0].peer == again.route[0].peer == "standby0"
        assert len(swarm.servers[0].steps) == 2


async def test_check_29_the_error_surfaces_when_retries_run_out() -> None:
    """It names the last server that was lost; the session may try again later."""
    settings = SETTINGS.model_copy(update={"max_retries": 1})
    async with swarm_of(["0:4", "0:4", "0:4"], settings) as swarm:
        session = await swarm.model.open_session(max_length=10)
        await session.step(hidden_states(3))
        for server in swarm.servers:
            server.fail_with("a fault")

        with pytest.raises(SessionLostError) as lost:
            await session.step(hidden_states(1))

        assert lost.value.__cause__ is not None
        assert sum(len(server.steps) > 0 for server in swarm.servers) == 2
        assert (session.position, session.is_closed) == (3, False)


async def test_several_losses_at_once_are_mended_in_one_step() -> None:
    """Each over its own blocks."""
    async with swarm_of(THREE) as swarm:
        session, standby = await open_then_join(swarm, *THREE)
        tokens = hidden_states(6)
        await session.step(tokens[:, :5])
        for server in swarm.servers:
            swarm.network.cut(server.peer)

        output = await session.step(tokens[:, 5:])

        assert output.equal(expected_output(tokens[:, 5:]))
        assert [hop.peer for hop in session.route] == [server.peer for server in standby]


async def test_a_successor_lost_during_the_replay_is_replaced_as_well() -> None:
    """The step goes on with a third one, which gets everything from the start."""
    async with swarm_of(["0:4"]) as swarm:
        session, standby = await open_then_join(swarm, "0:4", "0:4")
        tokens = hidden_states(10)
        await session.step(tokens[:, :9])
        first, second = standby

        def fail_later(hidden: torch.Tensor) -> torch.Tensor:
            chosen, spare = (first, second) if first.inputs else (second, first)
            spare.transform = lambda output: output
            if len(chosen.inputs) == 2:
                raise RuntimeError("a fault in the second chunk")
            return hidden

        first.transform = second.transform = fail_later
        swarm.network.cut(swarm.servers[0].peer)
        output = await session.step(tokens[:, 9:])

        assert output.equal(expected_output(tokens[:, 9:]))
        lost, last = (first, second) if session.route[0].peer == second.peer else (second, first)
        assert tokens_received(lost) == [4, 4]
        assert torch.cat(last.inputs, dim=1).equal(tokens)


@pytest.mark.parametrize("num_chunks", [0, 1, 2])
async def test_a_loss_between_chunks_of_a_prefill_repeats_only_the_lost_hop(
    num_chunks: int,
) -> None:
    """The output is whole, and the other hop got every token once."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        session, (standby,) = await open_then_join(swarm, "2:4")

        def fail_later(hidden: torch.Tensor) -> torch.Tensor:
            if len(swarm.servers[1].inputs) > num_chunks:
                raise RuntimeError("a fault")
            return hidden

        swarm.servers[1].transform = fail_later
        tokens = hidden_states(10)
        output = await session.step(tokens)

        assert output.equal(expected_output(tokens))
        assert tokens_received(swarm.servers[0]) == [4, 4, 2]
        assert sum(tokens_received(standby)) == 10


async def test_a_successor_without_memory_is_passed_over_but_not_banned() -> None:
    """When no other one is left, the caller hears of the memory."""
    async with swarm_of(["0:4"]) as swarm:
        session, (standby,) = await open_then_join(swarm, "0:4")
        standby.fail_with("Could not allocate 5 bytes immediately")
        await session.step(hidden_states(1))
        swarm.network.cut(swarm.servers[0].peer)

        with pytest.raises(CapacityError):
            await session.step(hidden_states(1))

        assert swarm.banned() == ["s0"]


async def test_all_repairs_of_a_step_have_one_deadline() -> None:
    """After that the loss is told."""
    settings = SETTINGS.model_copy(update={"repair_timeout_s": 0.05})
    async with swarm_of(["0:4"], settings) as swarm:
        session, (standby,) = await open_then_join(swarm, "0:4")
        await session.step(hidden_states(3))
        standby.is_silent = True
        swarm.network.cut(swarm.servers[0].peer)

        with pytest.raises(SessionLostError) as lost:
            await session.step(hidden_states(1))

        assert lost.value.peer == "s0"
        await eventually(lambda: not standby.node.pipes)


async def test_closing_during_a_repair_ends_it() -> None:
    """Nothing stays open at the server that was to take over."""
    async with swarm_of(["0:4"]) as swarm:
        session, (standby,) = await open_then_join(swarm, "0:4")
        await session.step(hidden_states(3))
        standby.is_silent = True
        swarm.network.cut(swarm.servers[0].peer)
        step = asyncio.create_task(session.step(hidden_states(1)))
        await eventually(lambda: len(standby.steps) == 1)
        (pipe,) = standby.node.pipes

        await session.close()
        pipe.break_off()

        with pytest.raises(SessionClosedError):
            await step
        await eventually(lambda: not standby.node.pipes)


async def test_a_loss_that_nobody_can_mend_is_told_and_mended_later() -> None:
    """The caller tries again when the server is back."""
    async with swarm_of(["0:4"]) as swarm:
        session = await swarm.model.open_session(max_length=20)
        await session.step(hidden_states(3))
        swarm.network.cut(swarm.servers[0].peer)
        with pytest.raises(NoRouteError, match="0:4"):
            await session.step(hidden_states(1))
        assert not session.is_closed

        swarm.network.heal(swarm.servers[0].peer)
        await session.step(hidden_states(1))

        assert session.position == 4
        assert swarm.servers[0].inputs[-2].shape[1] == 3


async def test_a_loss_without_history_closes_it() -> None:
    """It says that it is over."""
    settings = SETTINGS.model_copy(update={"max_history_bytes": 0})
    async with swarm_of(["0:4"], settings) as swarm:
        session = await swarm.model.open_session(max_length=20)
        await session.step(hidden_states(3))
        swarm.network.cut(swarm.servers[0].peer)
        with pytest.raises(SessionLostError):
            await session.step(hidden_states(1))

        assert session.is_closed
        with pytest.raises(SessionClosedError):
            await session.step(hidden_states(1))
        with pytest.raises(SessionClosedError):
            session.roll_back(0)
