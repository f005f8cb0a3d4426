"""Look-ups are shared and bounded in time."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from swarm_client.model_servers import ModelServers
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import DeadlineExceededError
from swarm_protocol.identifiers import PeerId
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.node import FoundRecord
from tests.unit.swarm_client.scripted_server import FACTS, ScriptedServer
from tests.unit.swarm_client.scripted_swarm import eventually


class GatedNode(MemoryNode):
    """Its look-ups wait until the gate opens."""

    def __init__(self, network: MemoryNetwork) -> None:
        joined = network.node("client")
        super().__init__(network, joined.peer_id)
        self.gate = asyncio.Event()
        self.num_lookups = 0

    async def lookup(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, FoundRecord]]:
        self.num_lookups += 1
        found = await super().lookup(keys)
        await self.gate.wait()
        return found


async def test_callers_who_come_during_a_lookup_share_the_next_one() -> None:
    """The running one may have missed what they came for."""
    network = MemoryNetwork()
    node = GatedNode(network)
    servers = ModelServers(node, FACTS, RoutingSettings())
    first = asyncio.create_task(servers.refresh())
    await eventually(lambda: node.num_lookups == 1)

    await ScriptedServer.start(network, "late", "0:4")
    others = [asyncio.create_task(servers.refresh()) for _ in range(5)]
    await asyncio.sleep(0)
    node.gate.set()
    await asyncio.gather(first, *others)

    assert node.num_lookups == 2
    assert servers.directory.peers() == ("late",)


async def test_callers_share_a_lookup_that_fails_as_well() -> None:
    """Else they would wait for one after the other, each to its deadline."""
    node = GatedNode(MemoryNetwork())
    servers = ModelServers(node, FACTS, RoutingSettings(lookup_timeout_s=0.02))
    first = asyncio.create_task(servers.refresh())
    await eventually(lambda: node.num_lookups == 1)

    others = [asyncio.create_task(servers.refresh()) for _ in range(5)]
    failures = await asyncio.gather(first, *others, return_exceptions=True)

    assert [type(failure) for failure in failures] == [DeadlineExceededError] * 6
    assert node.num_lookups == 2


async def test_a_caller_who_leaves_during_a_lookup_ends_it_for_nobody_else() -> None:
    """Who waits for it makes one of their own."""
    node = GatedNode(MemoryNetwork())
    servers = ModelServers(node, FACTS, RoutingSettings())
    first = asyncio.create_task(servers.refresh())
    await eventually(lambda: node.num_lookups == 1)
    others = [asyncio.create_task(servers.refresh()) for _ in range(3)]
    await asyncio.sleep(0)

    first.cancel()
    await eventually(lambda: node.num_lookups == 2)
    others[0].cancel()
    await eventually(lambda: node.num_lookups == 3)
    node.gate.set()
    await asyncio.gather(*others[1:])

    assert node.num_lookups == 3


async def test_a_lookup_has_a_deadline() -> None:
    """And what was known stays."""
    network = MemoryNetwork()
    await ScriptedServer.start(network, "server", "0:4")
    node = GatedNode(network)
    servers = ModelServers(node, FACTS, RoutingSettings(lookup_timeout_s=0.02))
    node.gate.set()
    await servers.refresh()
    node.gate.clear()

    with pytest.raises(DeadlineExceededError):
        await servers.refresh()

    assert servers.directory.peers() == ("server",)


async def test_a_limited_number_of_pings_reaches_every_server_in_turn() -> None:
    """A large swarm is not pinged at once."""
    network = MemoryNetwork()
    for name in ("a", "b", "c"):
        await ScriptedServer.start(network, name, "0:4")
    servers = ModelServers(network.node("client"), FACTS, RoutingSettings(max_pinged=2))
    await servers.refresh()

    await servers.watch.ping_servers()
    assert [view.ping_s for view in servers.directory.views(now=0)] == [0.0, 0.0, None]
    await servers.watch.ping_servers()
    assert [view.ping_s for view in servers.directory.views(now=0)] == [0.0, 0.0, 0.0]


async def test_a_ban_is_told_once_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    """A lost server whose blocks nobody else has is tried, and fails, every second."""
    network = MemoryNetwork()
    await ScriptedServer.start(network, "server", "0:4")
    servers = ModelServers(network.node("client"), FACTS, RoutingSettings())
    await servers.refresh()

    for _ in range(3):
        servers.report_failure(PeerId("server"))

    assert [record.message for record in caplog.records] == ["peer_banned"]
