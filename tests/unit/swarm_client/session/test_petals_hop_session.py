"""What a hop's messages say, given how far its session is."""

import asyncio

import pytest

from swarm_client.errors import SessionClosedError
from swarm_client.lanes import Lanes
from swarm_client.peer_descriptions import PeerDescriptions
from swarm_client.routing import Hop
from swarm_client.session import StepInputs
from swarm_client.session.dialling import Dialler
from swarm_client.session.hop_session import HopSession
from swarm_client.session.petals_hop_session import PetalsHopSession
from swarm_client.settings import RoutingSettings
from swarm_protocol.memory_node import MemoryNetwork
from tests.unit.swarm_client.scripted_server import FACTS, ScriptedServer
from tests.unit.swarm_client.scripted_swarm import eventually, hidden_states


async def open_one(*, can_roll_back: bool) -> tuple[ScriptedServer, HopSession]:
    network = MemoryNetwork()
    server = await ScriptedServer.start(network, "server", "1:3")
    if can_roll_back:
        server.can_roll_back()
    node = network.node("client")
    lanes = Lanes(node, dht_prefix=FACTS.dht_prefix, hidden_size=FACTS.hidden_size, timeout_s=1)
    settings = RoutingSettings(max_step_tokens=7)
    dialler = Dialler(node, FACTS.dht_prefix, PeerDescriptions(node, FACTS), lanes, settings)
    dialled = await dialler.dial((Hop(server.peer, server.blocks),), max_length=10)
    (session,) = dialled.hops
    return server, session


async def test_the_first_message_says_more_than_later_ones() -> None:
    """The length is fixed once; session and structure stay the same. None waits for memory."""
    server, session = await open_one(can_roll_back=False)
    await session.step(StepInputs(hidden_states(3)), position=0)
    await session.step(StepInputs(hidden_states(1)), position=3)

    first, second = server.steps
    assert (first.max_length, second.max_length) == (10, None)
    assert (first.alloc_timeout_s, second.alloc_timeout_s) == (0, 0)
    assert first.session_id == second.session_id is not None
    assert first.args_structure == second.args_structure is not None
    assert first.step_id != second.step_id


async def test_a_smaller_position_is_told_with_that_message_only() -> None:
    """Servers that know no rollback never see the key."""
    server, session = await open_one(can_roll_back=True)
    for position in (0, 3, 2, 5):
        await session.step(StepInputs(hidden_states(3)), position=position)

    assert [step.start_from_position for step in server.steps] == [None, None, 2, None]


async def test_leaving_ends_the_step_that_is_under_way() -> None:
    """The server is not to blame for it."""
    server, session = await open_one(can_roll_back=False)
    server.is_silent = True
    step = asyncio.create_task(session.step(StepInputs(hidden_states(3)), position=0))
    await eventually(lambda: len(server.steps) == 1)

    session.abandon()

    with pytest.raises(SessionClosedError):
        await step


@pytest.mark.parametrize("can_roll_back", [True, False])
async def test_it_can_roll_back_if_the_server_says_so(can_roll_back: bool) -> None:
    """And it takes steps of as many tokens as the settings allow."""
    _, session = await open_one(can_roll_back=can_roll_back)

    assert isinstance(session, PetalsHopSession)
    assert session.can_roll_back == can_roll_back
    assert session.max_step_tokens == 7


async def test_closing_twice_says_goodbye_once() -> None:
    """Nor does it after an end without words."""
    server, session = await open_one(can_roll_back=False)
    await session.close()
    await session.close()
    session.abandon()
    assert server.num_ended == 1

    server, session = await open_one(can_roll_back=False)
    session.abandon()
    await session.close()
    assert server.num_ended == 0
