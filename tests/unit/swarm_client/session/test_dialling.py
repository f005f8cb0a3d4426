"""All hops of a route are opened at once, or none."""

import asyncio

import pytest

from swarm_client.lanes import Lanes
from swarm_client.peer_descriptions import PeerDescriptions
from swarm_client.routing import Hop, Route
from swarm_client.session.dialling import Dialler
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import NodeError, PeerUnreachableError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.methods import RPC_INFO
from tests.unit.swarm_client.scripted_server import FACTS, ScriptedServer
from tests.unit.swarm_client.scripted_swarm import eventually


def dialler_of(node: MemoryNode, *, connect_timeout_s: float = 1) -> Dialler:
    descriptions = PeerDescriptions(node, FACTS)
    settings = RoutingSettings(connect_timeout_s=connect_timeout_s)
    lanes = Lanes(node, dht_prefix=FACTS.dht_prefix, hidden_size=FACTS.hidden_size, timeout_s=1)
    return Dialler(node, FACTS.dht_prefix, descriptions, lanes, settings)


ROUTE: Route = (Hop(PeerId("a"), BlockRange(0, 2)), Hop(PeerId("b"), BlockRange(2, 4)))


async def never(request: bytes, caller: PeerId) -> bytes:
    await asyncio.Event().wait()
    return b""


async def test_a_caller_who_leaves_while_dialling_leaves_no_stream_open() -> None:
    """One server is open already when the other one still hesitates."""
    network = MemoryNetwork()
    server = await ScriptedServer.start(network, "a", "0:2")
    slow = await ScriptedServer.start(network, "b", "2:4")
    await slow.node.serve_unary(RPC_INFO, never)
    dialling = asyncio.create_task(dialler_of(network.node("client")).dial(ROUTE, max_length=10))
    await eventually(lambda: len(server.node.pipes) == 1)

    dialling.cancel()
    await asyncio.wait([dialling])

    assert dialling.cancelled()
    await eventually(lambda: not server.node.pipes)


async def test_every_peer_that_fails_is_named() -> None:
    """So that each of them can be avoided."""
    dialled = await dialler_of(MemoryNetwork().node("client")).dial(ROUTE, max_length=10)

    assert not dialled.hops
    assert sorted(failure.peer for failure in dialled.failures) == ["a", "b"]


async def test_a_peer_that_does_not_answer_a_greeting_cannot_be_reached() -> None:
    """It is known before it is needed."""
    network = MemoryNetwork()
    silent = await ScriptedServer.start(network, "a", "0:2")
    await silent.node.serve_unary(RPC_INFO, never)
    dialler = dialler_of(network.node("client"), connect_timeout_s=0.05)

    with pytest.raises(PeerUnreachableError, match="no greeting"):
        await dialler.greet(ROUTE[0])


async def test_a_stopped_node_is_nobodys_failure_but_ours() -> None:
    """No peer may be banned for it."""
    node = MemoryNetwork().node("client")
    await node.close()

    with pytest.raises(NodeError):
        await dialler_of(node).dial(ROUTE, max_length=10)
