"""What a session tells of servers that it lost, waits for, and got."""

import asyncio

import pytest

from swarm_client.errors import NoRouteError, SessionLostError
from swarm_client.session import (
    HopLost,
    HopRestored,
    InferenceSession,
    SessionEvent,
    WaitingForBlocks,
)
from swarm_protocol.identifiers import BlockRange
from tests.unit.swarm_client.scripted_server import ScriptedServer, expected_output
from tests.unit.swarm_client.scripted_swarm import (
    SETTINGS,
    Swarm,
    eventually,
    hidden_states,
    swarm_of,
)

WAITING = SETTINGS.model_copy(update={"wait_for_blocks_s": 5.0})
SPAN = BlockRange(2, 4)


async def open_session(swarm: Swarm) -> tuple[InferenceSession, list[SessionEvent]]:
    events: list[SessionEvent] = []
    return await swarm.model.open_session(max_length=60, on_event=events.append), events


async def join(swarm: Swarm, blocks: str) -> ScriptedServer:
    return await ScriptedServer.start(swarm.network, "joined", blocks)


async def test_a_server_is_lost_and_others_take_over() -> None:
    """With the code of the error, the tokens that were sent once more, and the gap."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        session, events = await open_session(swarm)
        await join(swarm, "2:4")
        await session.step(hidden_states(3, batch_size=2))
        swarm.network.cut(swarm.servers[1].peer)

        await session.step(hidden_states(1, batch_size=2))

        lost, restored = events
        assert lost == HopLost(swarm.servers[1].peer, SPAN, "peer_unreachable")
        assert isinstance(restored, HopRestored)
        assert (restored.blocks, restored.num_replayed_tokens) == (SPAN, 6)
        assert 0 < restored.waited_s < restored.gap_s < 1


async def test_an_undisturbed_session_has_nothing_to_tell() -> None:
    """No events for what happens to others, either."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        session, events = await open_session(swarm)
        _, others = await open_session(swarm)
        await session.step(hidden_states(3))
        await session.close()

        assert events == others == []


async def test_without_a_standby_the_session_waits_for_a_server_to_join() -> None:
    """It says which blocks are missing, and goes on as if nothing had been."""
    async with swarm_of(["0:2", "2:4"], WAITING) as swarm:
        session, events = await open_session(swarm)
        tokens = hidden_states(6)
        await session.step(tokens[:, :5])
        swarm.network.cut(swarm.servers[1].peer)
        step = asyncio.create_task(session.step(tokens[:, 5:]))
        await eventually(lambda: len(events) == 2)

        await join(swarm, "2:4")

        assert (await step).equal(expected_output(tokens[:, 5:]))
        _, waiting, restored = events
        assert isinstance(waiting, WaitingForBlocks)
        assert waiting.missing == (SPAN,)
        assert isinstance(restored, HopRestored)
        assert 0 < restored.waited_s <= restored.gap_s < 5


async def test_a_server_that_comes_back_under_its_old_identity_is_taken() -> None:
    """It was started anew by whoever looks after it; its KV cache is empty."""
    async with swarm_of(["0:2", "2:4"], WAITING) as swarm:
        session, events = await open_session(swarm)
        tokens = hidden_states(6)
        await session.step(tokens[:, :5])
        server = swarm.servers[1]
        swarm.network.cut(server.peer)
        step = asyncio.create_task(session.step(tokens[:, 5:]))
        await eventually(lambda: len(events) == 2)

        swarm.network.heal(server.peer)
        await server.announce()

        assert (await step).equal(expected_output(tokens[:, 5:]))
        assert sum(inputs.shape[1] for inputs in server.inputs) == 5 + 6


@pytest.mark.parametrize("limit", ["wait_for_blocks_s", "repair_timeout_s"])
async def test_a_wait_in_vain_is_one_error_that_names_the_blocks(limit: str) -> None:
    """Whichever time is over first; the session may try again when the server is back."""
    async with swarm_of(["0:2", "2:4"], WAITING.model_copy(update={limit: 0.1})) as swarm:
        session, events = await open_session(swarm)
        tokens = hidden_states(6)
        await session.step(tokens[:, :5])
        swarm.network.cut(swarm.servers[1].peer)

        with pytest.raises(NoRouteError, match="2:4"):
            await session.step(tokens[:, 5:])

        assert isinstance(events[-1], WaitingForBlocks)
        await join(swarm, "2:4")
        assert (await session.step(tokens[:, 5:])).equal(expected_output(tokens[:, 5:]))


async def test_opening_does_not_wait() -> None:
    """A caller who has nothing yet is told at once, and may come back."""
    async with swarm_of(["0:2"], WAITING) as swarm:
        with pytest.raises(NoRouteError, match="2:4"):
            await open_session(swarm)


async def test_opening_waits_for_those_who_want_it() -> None:
    """A generation that is resumed has something to lose."""
    async with swarm_of(["0:2"], WAITING) as swarm:
        events: list[SessionEvent] = []
        opening = asyncio.create_task(
            swarm.model.open_session(max_length=9, wait_s=5, on_event=events.append)
        )
        await eventually(lambda: len(events) == 1)

        await join(swarm, "2:4")

        assert [hop.peer for hop in (await opening).route] == ["s0", "joined"]


async def test_a_loss_with_nothing_to_replay_is_told_before_the_error() -> None:
    """Nobody takes over."""
    async with swarm_of(["0:4"], SETTINGS.model_copy(update={"max_history_bytes": 0})) as swarm:
        session, events = await open_session(swarm)
        await session.step(hidden_states(3))
        swarm.network.cut(swarm.servers[0].peer)

        with pytest.raises(SessionLostError):
            await session.step(hidden_states(1))

        assert [type(event) for event in events] == [HopLost]
