"""What is told of a lane that is lost, and in whose name."""

from contextvars import ContextVar

from swarm_client.lanes import Lanes
from swarm_protocol.identifiers import PeerId
from swarm_protocol.memory_node import MemoryNetwork
from tests.unit.swarm_client.lanes.scripted_lane_server import ScriptedLaneServer
from tests.unit.swarm_client.scripted_server import FACTS
from tests.unit.swarm_client.scripted_swarm import eventually

caller = ContextVar("caller", default="nobody")


async def test_a_lane_is_lost_in_nobodys_name() -> None:
    """The request that was the first to use it may have ended long ago."""
    network, told = MemoryNetwork(), list[tuple[PeerId, str]]()
    server = await ScriptedLaneServer.start(network, "server")
    lanes = Lanes(
        network.node("client"),
        dht_prefix=FACTS.dht_prefix,
        hidden_size=FACTS.hidden_size,
        timeout_s=5,
        on_leaving=lambda peer: None,
        on_lost=lambda peer: told.append((peer, caller.get())),
    )
    caller.set("the first request")
    await lanes.greet(server.peer)

    network.cut(server.peer)

    await eventually(lambda: told == [(server.peer, "nobody")])
    await lanes.close()
