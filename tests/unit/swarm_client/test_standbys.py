"""Who would take over is connected before they are needed."""

import asyncio

from swarm_client.errors import NoRouteError
from swarm_client.model_servers import ModelServers
from swarm_client.routing import Hop, Route
from swarm_client.session.losses import Losses
from swarm_client.session.route_search import RouteSearch
from swarm_client.settings import RoutingSettings
from swarm_client.standbys import Standbys
from swarm_protocol.errors import NodeError, PeerUnreachableError, SwarmError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.memory_node import MemoryNetwork
from tests.unit.swarm_client.scripted_server import FACTS, ScriptedServer
from tests.unit.swarm_client.scripted_swarm import eventually, swarm_of

ROUTE = tuple(Hop(PeerId(name), BlockRange(i, i + 1)) for i, name in enumerate("abc"))


class Greetings:
    """What a `Standbys` asks for: each hop of `ROUTE` has two standbys, but for the last one."""

    def __init__(self, error: type[SwarmError] | None = None) -> None:
        self.greeted: list[str] = []
        self.failed: list[str] = []
        self.find_detour = self._find_detour
        self._error = error
        self.standbys = Standbys(
            lambda hop: self.find_detour(hop),
            self._greet,
            lambda failure: self.failed.append(failure.peer),
        )

    def _find_detour(self, hop: Hop) -> Route:
        standbys = [] if hop == ROUTE[-1] else [f"for {hop.peer}", f"second for {hop.peer}"]
        for standby in standbys:
            if standby not in self.failed:
                return (Hop(PeerId(standby), hop.blocks),)
        raise NoRouteError((hop.blocks,))

    async def _greet(self, hop: Hop) -> None:
        self.greeted.append(hop.peer)
        if self._error is PeerUnreachableError:
            raise PeerUnreachableError(hop.peer, "gone")
        if self._error is not None:
            raise self._error("stopped")


async def test_a_standby_of_each_hop_is_greeted() -> None:
    """Where there is one; soon afterwards, not again."""
    greetings = Greetings()
    greetings.standbys.look_out(ROUTE)
    greetings.standbys.look_out(ROUTE)
    await eventually(lambda: len(greetings.greeted) == 2)
    greetings.standbys.look_out(ROUTE)
    await asyncio.sleep(0)

    assert greetings.greeted == ["for a", "for b"]
    await greetings.standbys.close()


async def test_who_cannot_be_greeted_is_reported_and_the_next_one_greeted() -> None:
    """Better now than when they are needed: records outlive their servers."""
    greetings = Greetings(PeerUnreachableError)
    greetings.standbys.look_out(ROUTE)
    await eventually(lambda: len(greetings.failed) == 4)

    assert greetings.failed == ["for a", "second for a", "for b", "second for b"]
    assert greetings.greeted == greetings.failed
    await greetings.standbys.close()


async def test_the_only_standby_is_greeted_once_though_it_cannot_be() -> None:
    """One that is banned is still found where there is nobody else."""
    greetings = Greetings(PeerUnreachableError)
    greetings.find_detour = lambda hop: (Hop(PeerId("only"), hop.blocks),)
    greetings.standbys.look_out(ROUTE[:2])
    await eventually(lambda: len(greetings.failed) == 2)
    await greetings.standbys.close()

    assert greetings.greeted == ["only", "only"]


async def test_a_node_that_has_stopped_is_somebody_elses_to_report() -> None:
    """No peer is to blame."""
    greetings = Greetings(NodeError)
    greetings.standbys.look_out(ROUTE)
    await eventually(lambda: len(greetings.greeted) == 2)
    await greetings.standbys.close()

    assert greetings.failed == []


async def test_a_session_that_is_opened_has_its_standby_greeted() -> None:
    """It has described itself before anybody is lost, and no session is open there."""
    async with swarm_of(["0:4", "0:4"]) as swarm:
        session = await swarm.model.open_session(max_length=9)
        (standby,) = (s for s in swarm.servers if s.peer != session.route[0].peer)

        await eventually(lambda: standby.num_infos == 1)

        assert not standby.steps
        assert not standby.node.pipes
        await session.close()


async def test_a_standby_that_can_be_reached_goes_before_servers_that_nobody_knows() -> None:
    """Its ping is measured when it is greeted."""
    network = MemoryNetwork()
    for name in ("a", "b", "c"):
        await ScriptedServer.start(network, name, "0:4")
    servers = ModelServers(network.node("client"), FACTS, RoutingSettings())
    await servers.refresh()
    search = RouteSearch(servers, max_length=9)
    losses = Losses(max_losses=0, timeout_s=1)
    (session,) = await search.open(BlockRange(0, 4), num_rows=1, losses=losses)

    def reached() -> list[str]:
        return [view.peer for view in servers.directory.views(now=0) if view.ping_s is not None]

    await eventually(lambda: len(reached()) == 1)

    assert session.hop.peer not in reached()
    session.abandon()
    await servers.close()
