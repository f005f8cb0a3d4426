"""A server whose reply is late is left as soon as others have caught up, and not before."""

import asyncio

import pytest
import torch

from swarm_client.errors import SessionLostError
from swarm_client.session import (
    HopLost,
    HopRestored,
    InferenceSession,
    SessionEvent,
    WaitingForBlocks,
)
from tests.unit.swarm_client.scripted_server import ScriptedServer, expected_output
from tests.unit.swarm_client.scripted_swarm import (
    SETTINGS,
    Swarm,
    eventually,
    hidden_states,
    swarm_of,
)

HASTY = SETTINGS.model_copy(
    update={"first_patience_s": 0.05, "late_margin_s": 0.05, "late_factor": 1.0, "kv_wait_s": 0.0}
)


async def open_session(
    swarm: Swarm, *standby: str
) -> tuple[InferenceSession, list[SessionEvent], list[ScriptedServer]]:
    events: list[SessionEvent] = []
    session = await swarm.model.open_session(max_length=60, on_event=events.append)
    servers = [
        await ScriptedServer.start(swarm.network, f"standby{index}", blocks)
        for index, blocks in enumerate(standby)
    ]
    await swarm.model.refresh()
    return session, events, servers


@pytest.mark.parametrize("standby", [["2:4"], ["2:3", "3:4"]], ids=["one", "two"])
@pytest.mark.parametrize("position", [1, 9])
async def test_a_silent_server_is_replaced_long_before_a_step_times_out(
    position: int, standby: list[str]
) -> None:
    """Others are sent what it had been sent, then the step; it is banned."""
    async with swarm_of(["0:2", "2:4"], HASTY) as swarm:
        session, events, servers = await open_session(swarm, *standby)
        tokens = hidden_states(position + 1)
        await session.step(tokens[:, :position])
        swarm.stop(swarm.servers[1])

        output = await session.step(tokens[:, position:])

        assert output.equal(expected_output(tokens[:, position:]))
        lost, restored = events
        assert isinstance(lost, HopLost)
        assert isinstance(restored, HopRestored)
        assert (lost.peer, lost.reason) == ("s1", "late")
        assert restored.num_replayed_tokens == position
        assert 0.05 < restored.gap_s < 2
        for server in servers:
            assert sum(inputs.shape[1] for inputs in server.inputs) == position + 1
        assert swarm.banned() == ["s1"]
        await eventually(lambda: not swarm.servers[1].node.pipes)


async def test_a_silent_server_is_replaced_in_a_prefill_too() -> None:
    """In whichever chunk; the chunks behind go on over the others."""
    async with swarm_of(["0:2", "2:4"], HASTY) as swarm:
        session, _, _ = await open_session(swarm, "2:4")

        def fall_silent(hidden: torch.Tensor) -> torch.Tensor:
            swarm.servers[1].is_silent = len(swarm.servers[1].inputs) == 2
            return hidden

        swarm.servers[1].transform = fall_silent
        tokens = hidden_states(17)
        output = await session.step(tokens)

        assert output.equal(expected_output(tokens))
        assert sum(inputs.shape[1] for inputs in swarm.servers[0].inputs) == 17


@pytest.mark.parametrize("position", [0, 3])
async def test_one_that_answers_pings_is_left_but_not_banned(position: int) -> None:
    """It counts as out of reach until it is measured again: others do not begin with it."""
    async with swarm_of(["0:4"], HASTY) as swarm:
        session, _, _ = await open_session(swarm, "0:4")
        if position:
            await session.step(hidden_states(position))
        swarm.servers[0].is_silent = True

        await session.step(hidden_states(1))

        assert session.route[0].peer == "standby0"
        assert swarm.banned() == []
        assert (await swarm.model.open_session(max_length=9)).route[0].peer == "standby0"


async def test_one_that_answers_no_pings_is_left_long_before_it_would_be_late() -> None:
    """Nobody knows how long steps take there, and it may take ten seconds."""
    async with swarm_of(["0:4"], SETTINGS) as swarm:
        session, events, _ = await open_session(swarm, "0:4")
        swarm.stop(swarm.servers[0])

        async with asyncio.timeout(2):
            await session.step(hidden_states(3))

        assert isinstance(events[0], HopLost)
        assert swarm.banned() == ["s0"]


async def test_a_silent_server_that_nobody_can_replace_is_lost_and_waited_for() -> None:
    """The caller is told for which blocks, long before the time for a step is over."""
    settings = SETTINGS.model_copy(update={"wait_for_blocks_s": 20})
    async with swarm_of(["0:4"], settings) as swarm:
        session, events, _ = await open_session(swarm)
        await session.step(hidden_states(3))
        swarm.stop(swarm.servers[0])
        step = asyncio.create_task(session.step(hidden_states(1)))
        async with asyncio.timeout(5):
            await eventually(lambda: any(isinstance(one, WaitingForBlocks) for one in events))
        await ScriptedServer.start(swarm.network, "joined", "0:4")

        assert (await step).equal(expected_output(hidden_states(1)))

        assert [type(event) for event in events] == [HopLost, WaitingForBlocks, HopRestored]


async def test_others_that_answer_no_pings_when_they_are_to_take_over_are_left_too() -> None:
    """In the middle of the replay; a third server takes over."""
    async with swarm_of(["0:4"], SETTINGS) as swarm:
        session, events, (standby,) = await open_session(swarm, "0:4")
        await session.step(hidden_states(3))
        swarm.stop(swarm.servers[0])
        swarm.stop(standby)
        step = asyncio.create_task(session.step(hidden_states(1)))
        await eventually(lambda: len(standby.steps) == 1)
        await ScriptedServer.start(swarm.network, "third", "0:4")
        await swarm.model.refresh()

        async with asyncio.timeout(3):
            assert (await step).equal(expected_output(hidden_states(1)))

        assert session.route[0].peer == "third"
        assert sum(isinstance(event, HopLost) for event in events) == 1


async def test_a_late_reply_is_taken_when_others_are_not_ready() -> None:
    """The session stays where it is, and the others are left."""
    async with swarm_of(["0:4"], HASTY) as swarm:
        session, events, (standby,) = await open_session(swarm, "0:4")
        await session.step(hidden_states(9))
        standby.is_silent = True
        swarm.servers[0].delay_s = 0.2

        output = await session.step(hidden_states(1))

        assert output.equal(expected_output(hidden_states(1)))
        assert standby.steps
        assert (session.route[0].peer, events, swarm.banned()) == ("s0", [], [])
        await eventually(lambda: not standby.node.pipes)


async def test_a_server_that_joins_takes_over_from_a_silent_one() -> None:
    """Nobody else was there when the step became late."""
    async with swarm_of(["0:4"], HASTY) as swarm:
        session, _, _ = await open_session(swarm)
        await session.step(hidden_states(3))
        swarm.servers[0].is_silent = True
        step = asyncio.create_task(session.step(hidden_states(1)))
        await eventually(lambda: len(swarm.servers[0].steps) == 2)

        await ScriptedServer.start(swarm.network, "joined", "0:4")

        assert (await step).equal(expected_output(hidden_states(1)))
        assert session.route[0].peer == "joined"


async def test_nobody_is_asked_to_take_over_what_is_usual() -> None:
    """A server that always takes its time is not late."""
    settings = HASTY.model_copy(update={"first_patience_s": 9.0, "late_factor": 3.0})
    async with swarm_of(["0:4"], settings) as swarm:
        session, events, (standby,) = await open_session(swarm, "0:4")
        swarm.servers[0].delay_s = 0.03
        for _ in range(12):
            await session.step(hidden_states(1))

        assert not events
        assert not standby.steps


async def test_a_caller_who_leaves_leaves_the_others_too() -> None:
    """Nothing stays open anywhere."""
    async with swarm_of(["0:4"], HASTY) as swarm:
        session, _, (standby,) = await open_session(swarm, "0:4")
        await session.step(hidden_states(3))
        swarm.servers[0].is_silent = standby.is_silent = True
        step = asyncio.create_task(session.step(hidden_states(1)))
        await eventually(lambda: len(standby.steps) == 1)

        step.cancel()
        await asyncio.wait([step])

        assert step.cancelled()
        await eventually(lambda: swarm.is_idle() and not standby.node.pipes)


async def test_servers_that_all_are_late_are_too_many_losses_at_last() -> None:
    """Each of them caught up, and then did not answer."""
    settings = HASTY.model_copy(update={"max_retries": 1})
    async with swarm_of(["0:4"], settings) as swarm:
        session, _, standby = await open_session(swarm, "0:4", "0:4")
        await session.step(hidden_states(3))

        def fall_silent(server: ScriptedServer) -> None:
            def transform(hidden: torch.Tensor) -> torch.Tensor:
                server.is_silent = True
                return hidden

            server.transform = transform

        swarm.servers[0].is_silent = True
        for server in standby:
            fall_silent(server)

        with pytest.raises(SessionLostError):
            await session.step(hidden_states(1))


@pytest.mark.parametrize("num_turns", range(12))
async def test_closing_while_others_take_over_leaves_them_too(num_turns: int) -> None:
    """In whichever turn of the loop: the step does not go on with them."""
    async with swarm_of(["0:4"], HASTY) as swarm:
        session, _, (standby,) = await open_session(swarm, "0:4")
        await session.step(hidden_states(3))
        swarm.stop(swarm.servers[0])
        step = asyncio.create_task(session.step(hidden_states(1)))
        while not standby.inputs:  # noqa: ASYNC110  (turns of the loop are counted from here on)
            await asyncio.sleep(0)
        for _ in range(num_turns):
            await asyncio.sleep(0)

        await session.close()

        await asyncio.gather(step, return_exceptions=True)
        await eventually(lambda: not standby.node.pipes)
