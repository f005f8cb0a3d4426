"""Blocks that nobody serves are waited for, and servers that hesitate are not."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from math import inf

import pytest

from swarm_client.errors import CapacityError, NoRouteError
from swarm_client.model_servers import ModelServers
from swarm_client.session import SessionEvent, WaitingForBlocks
from swarm_client.session.losses import Losses
from swarm_client.session.route_search import RouteSearch
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import SwarmError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.methods import RPC_INFO
from swarm_protocol.node import FoundRecord
from tests.unit.swarm_client.scripted_server import FACTS, ScriptedServer
from tests.unit.swarm_client.scripted_swarm import eventually

ALL = BlockRange(0, 4)


class Searching:
    """A search in a swarm of scripted servers, and what it tells."""

    def __init__(self, servers: ModelServers, network: MemoryNetwork) -> None:
        self.servers = servers
        self.network = network
        self.events: list[SessionEvent] = []
        self.search = RouteSearch(
            servers, max_length=10, hedge_after_s=0.02, on_event=self.events.append
        )

    def losses(self, *, wait_s: float, timeout_s: float = 10, max_losses: int = 3) -> Losses:
        return Losses(max_losses=max_losses, timeout_s=timeout_s, wait_s=wait_s)

    async def open(self, losses: Losses) -> list[str]:
        """Return the peers of the route that was opened."""
        sessions = await self.search.open(ALL, num_rows=1, losses=losses)
        for session in sessions:
            await session.close()
        return [session.hop.peer for session in sessions]

    async def join(self, name: str, blocks: str) -> ScriptedServer:
        return await ScriptedServer.start(self.network, name, blocks)

    async def waits(self) -> None:
        """Return when blocks are waited for."""
        await eventually(lambda: len(self.events) > 0)


class DeafNode(MemoryNode):
    """Nobody answers its look-ups."""

    def __init__(self) -> None:
        super().__init__(MemoryNetwork(), PeerId("client"))

    async def lookup(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, FoundRecord]]:
        await asyncio.Event().wait()
        return {}


@asynccontextmanager
async def searching(
    settings: RoutingSettings | None = None, node: MemoryNode | None = None
) -> AsyncIterator[Searching]:
    network = MemoryNetwork()
    node = node or network.node("client")
    servers = ModelServers(node, FACTS, settings or RoutingSettings())
    try:
        yield Searching(servers, network)
    finally:
        await servers.close()
        for each in network.nodes.values():
            await each.close()


async def never(request: bytes, caller: PeerId) -> bytes:
    await asyncio.Event().wait()
    return b""


async def test_a_server_that_joins_ends_the_wait() -> None:
    """The gap is told once, as long as it is the same."""
    async with searching() as swarm:
        await swarm.join("a", "0:2")
        losses = swarm.losses(wait_s=5)
        opening = asyncio.create_task(swarm.open(losses))
        await swarm.waits()

        await swarm.join("b", "2:4")

        assert await opening == ["a", "b"]
        (event,) = swarm.events
        assert isinstance(event, WaitingForBlocks)
        assert event.missing == (BlockRange(2, 4),)
        assert 4 < event.left_s <= 5
        assert 0 < losses.waited_s < 5


async def test_a_server_that_was_cut_off_ends_the_wait_when_it_answers() -> None:
    """Its ban lasts longer, and it announces itself seldom."""
    async with searching(RoutingSettings(ban_s=60)) as swarm:
        server = await swarm.join("a", "0:4")
        await swarm.servers.refresh()
        swarm.network.cut(server.peer)
        opening = asyncio.create_task(swarm.open(swarm.losses(wait_s=10)))
        await swarm.waits()

        swarm.network.heal(server.peer)

        assert await opening == ["a"]


async def test_a_gap_is_told_though_the_dht_does_not_answer() -> None:
    """Half of it is cut off, maybe; the look-up has ten seconds."""
    async with searching(node=DeafNode()) as swarm:
        opening = asyncio.create_task(swarm.open(swarm.losses(wait_s=5)))

        async with asyncio.timeout(3):
            await swarm.waits()

        assert isinstance(swarm.events[0], WaitingForBlocks)
        opening.cancel()
        await asyncio.wait([opening])


async def test_a_gap_that_changes_is_told_again() -> None:
    """A server may join that has only some of the blocks."""
    async with searching() as swarm:
        opening = asyncio.create_task(swarm.open(swarm.losses(wait_s=5)))
        await swarm.waits()

        await swarm.join("a", "0:3")
        await eventually(lambda: len(swarm.events) == 2)
        await swarm.join("b", "3:4")
        await opening

        gaps = [event.missing for event in swarm.events if isinstance(event, WaitingForBlocks)]
        assert gaps == [(ALL,), (BlockRange(3, 4),)]


async def test_a_wait_that_is_over_is_one_error_that_names_the_blocks() -> None:
    """With why the last server was lost as its cause."""
    async with searching() as swarm:
        await swarm.join("a", "0:3")
        losses = swarm.losses(wait_s=0.05)
        losses.latest = SwarmError("lost")

        with pytest.raises(NoRouteError, match="3:4") as refused:
            await swarm.open(losses)

        assert refused.value.__cause__ is losses.latest


async def test_without_time_to_wait_a_gap_is_told_at_once() -> None:
    """The servers are looked up again before."""
    async with searching() as swarm:
        with pytest.raises(NoRouteError, match="0:4"):
            await swarm.open(swarm.losses(wait_s=0))

        assert swarm.events == []
        await swarm.join("a", "0:4")
        assert await swarm.open(swarm.losses(wait_s=0)) == ["a"]


async def test_the_deadline_of_all_repairs_ends_the_wait_too() -> None:
    """Whatever the wait might take."""
    async with searching() as swarm:
        losses = swarm.losses(wait_s=60, timeout_s=0.05)
        losses.add(PeerId("x"), cause=SwarmError(), now=asyncio.get_running_loop().time())

        with pytest.raises(NoRouteError):
            await swarm.open(losses)


async def test_nobody_waits_for_servers_that_are_full() -> None:
    """The caller is to hear of the memory."""
    async with searching() as swarm:
        losses = swarm.losses(wait_s=60)
        losses.latest = CapacityError(PeerId("a"), ALL)

        with pytest.raises(CapacityError):
            await swarm.open(losses)


async def test_a_failed_peer_that_announces_itself_anew_is_tried_again() -> None:
    """It was started again under its old identity, within its ban."""
    async with searching() as swarm:
        server = await swarm.join("a", "0:4")
        await swarm.servers.refresh()
        swarm.network.cut(server.peer)
        opening = asyncio.create_task(swarm.open(swarm.losses(wait_s=5)))
        await swarm.waits()

        swarm.network.heal(server.peer)
        await server.announce()

        assert await opening == ["a"]


async def test_a_failed_peer_is_tried_again_when_its_ban_is_over() -> None:
    """It may only have been out of reach for us."""
    async with searching(RoutingSettings(ban_s=0.1)) as swarm:
        server = await swarm.join("a", "0:4")
        await swarm.servers.refresh()
        swarm.network.cut(server.peer)
        opening = asyncio.create_task(swarm.open(swarm.losses(wait_s=5)))
        await swarm.waits()

        swarm.network.heal(server.peer)

        assert await opening == ["a"]


async def test_a_caller_who_leaves_ends_the_wait() -> None:
    """Nothing goes on behind their back."""
    async with searching() as swarm:
        opening = asyncio.create_task(swarm.open(swarm.losses(wait_s=60)))
        await swarm.waits()

        opening.cancel()
        await asyncio.wait([opening])

        assert opening.cancelled()


async def test_a_server_that_hesitates_is_not_waited_for_if_there_is_another() -> None:
    """It counts as out of reach until it is measured again, but is not banned."""
    async with searching() as swarm:
        slow = await swarm.join("a", "0:4")
        await swarm.join("b", "0:4")
        await slow.node.serve_unary(RPC_INFO, never)
        await swarm.servers.refresh()
        swarm.servers.directory.pings.record(PeerId("a"), 0.0)

        assert await swarm.open(swarm.losses(wait_s=0)) == ["b"]

        hesitant = swarm.servers.directory.views(now=0)[0]
        assert (hesitant.peer, hesitant.ping_s, hesitant.is_banned) == ("a", float("inf"), False)
        await eventually(lambda: not slow.node.pipes)


async def test_a_server_that_hesitates_is_waited_for_if_it_is_the_only_one() -> None:
    """As long as connecting may take."""
    async with searching() as swarm:
        slow = await swarm.join("a", "0:4")
        gate = asyncio.Event()

        async def hesitate(request: bytes, caller: PeerId) -> bytes:
            await gate.wait()
            return await slow._describe(request, caller)

        await slow.node.serve_unary(RPC_INFO, hesitate)
        opening = asyncio.create_task(swarm.open(swarm.losses(wait_s=0)))
        await asyncio.sleep(0.05)  # more than the time after which another one would be dialled

        gate.set()

        assert await opening == ["a"]


async def test_any_servers_that_hesitate_are_not_waited_for_if_there_is_another() -> None:
    """Records outlive their servers, and several may have died."""
    async with searching(RoutingSettings(connect_timeout_s=60)) as swarm:
        for name in ("a", "b"):
            server = await swarm.join(name, "0:4")
            await server.node.serve_unary(RPC_INFO, never)
        await swarm.join("c", "0:4")
        await swarm.servers.refresh()
        for name in ("a", "b"):
            swarm.servers.directory.pings.record(PeerId(name), 0.0)

        assert await swarm.open(swarm.losses(wait_s=0)) == ["c"]

        views = swarm.servers.directory.views(now=0)
        assert [view.ping_s for view in views[:2]] == [inf, inf]


async def test_a_failure_beside_servers_that_hesitate_has_another_dialled_at_once() -> None:
    """The time that the others had is not given again."""
    async with searching(RoutingSettings(connect_timeout_s=60)) as swarm:
        slow = await swarm.join("a", "0:4")
        await slow.node.serve_unary(RPC_INFO, never)
        dead = await swarm.join("b", "0:4")
        await swarm.join("c", "0:4")
        await swarm.servers.refresh()
        swarm.network.cut(dead.peer)
        for name in ("a", "b"):
            swarm.servers.directory.pings.record(PeerId(name), 0.0)

        assert await swarm.open(swarm.losses(wait_s=0)) == ["c"]
        assert swarm.servers.directory.is_banned(dead.peer, asyncio.get_running_loop().time())


async def test_the_first_answer_counts_and_the_other_route_is_dropped() -> None:
    """Also when the servers that hesitated answer first in the end."""
    async with searching() as swarm:
        slow, slower = await swarm.join("a", "0:4"), await swarm.join("b", "0:4")
        gate = asyncio.Event()

        async def hesitate(request: bytes, caller: PeerId) -> bytes:
            await gate.wait()
            return await slow._describe(request, caller)

        async def open_the_gate(request: bytes, caller: PeerId) -> bytes:
            gate.set()
            return await never(request, caller)

        await slow.node.serve_unary(RPC_INFO, hesitate)
        await slower.node.serve_unary(RPC_INFO, open_the_gate)
        await swarm.servers.refresh()
        swarm.servers.directory.pings.record(PeerId("a"), 0.0)

        assert await swarm.open(swarm.losses(wait_s=0)) == ["a"]
        assert all(view.ping_s != float("inf") for view in swarm.servers.directory.views(now=0))


async def test_a_failure_beside_the_route_that_is_used_is_a_ban_too() -> None:
    """What has failed is known, whoever has won."""
    async with searching() as swarm:
        slow, broken = await swarm.join("a", "0:2"), await swarm.join("b", "2:4")
        await swarm.join("c", "0:2")
        await slow.node.serve_unary(RPC_INFO, never)
        swarm.network.cut(broken.peer)
        await swarm.join("d", "2:4")
        await swarm.servers.refresh()
        for peer in ("a", "b"):
            swarm.servers.directory.pings.record(PeerId(peer), 0.0)

        assert await swarm.open(swarm.losses(wait_s=0)) == ["c", "d"]
        assert swarm.servers.directory.is_banned(broken.peer, asyncio.get_running_loop().time())


async def test_blocks_are_waited_for_however_many_of_their_servers_do_not_answer() -> None:
    """Records outlive their servers: trying the dead uses up nothing."""
    async with searching() as swarm:
        dead = [await swarm.join(name, "0:4") for name in "bcdefg"]
        await swarm.servers.refresh()
        for server in dead:
            swarm.network.cut(server.peer)
        opening = asyncio.create_task(swarm.open(swarm.losses(wait_s=5, max_losses=1)))
        await eventually(lambda: opening.done() or len(swarm.events) > 0)

        await swarm.join("a", "0:4")

        assert await opening == ["a"]
