"""The live map of servers, and opening sessions from it."""

import asyncio
from dataclasses import replace

import pytest
import torch

from swarm_client.connection import SwarmConnection
from swarm_client.errors import NoRouteError
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import PeerMisbehavedError, PeerRefusedError, PeerUnreachableError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.records import ServerState
from tests.unit.swarm_client.scripted_server import FACTS, ScriptedServer, expected_output
from tests.unit.swarm_client.scripted_swarm import eventually, hidden_states, swarm_of

QUICK = RoutingSettings(connect_timeout_s=0.05)


async def test_watching_has_looked_the_servers_up() -> None:
    """The map is there at once, sorted, with what servers announce."""
    async with swarm_of(["2:4", "0:2"]) as swarm:
        first, second = swarm.model.servers()

        assert (first.peer, first.blocks, first.state) == (
            "s1",
            BlockRange(0, 2),
            ServerState.ONLINE,
        )
        assert second.peer == "s0"
        assert swarm.model.missing_blocks() == ()


async def test_pings_arrive_in_the_background() -> None:
    """Nobody waits for them; a server out of reach is shown as such."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        swarm.network.cut(swarm.servers[1].peer)

        await eventually(
            lambda: [view.ping_s for view in swarm.model.servers()] == [0.0, float("inf")]
        )


async def test_the_map_follows_the_swarm_by_itself() -> None:
    """A server that comes later appears, one that leaves disappears."""
    async with swarm_of(["0:4"], RoutingSettings(update_period_s=0.01)) as swarm:
        await ScriptedServer.start(swarm.network, "late", "0:4")
        await swarm.servers[0].announce(ServerState.OFFLINE)

        await eventually(lambda: [view.peer for view in swarm.model.servers()] == ["late"])


async def test_opening_looks_up_again_before_it_gives_up() -> None:
    """A server that has just come is used at once."""
    async with swarm_of(["0:2"]) as swarm:
        with pytest.raises(NoRouteError, match="2:4"):
            await swarm.model.open_session(max_length=10)
        await ScriptedServer.start(swarm.network, "late", "2:4")

        session = await swarm.model.open_session(max_length=10)

        assert [hop.peer for hop in session.route] == ["s0", "late"]


async def test_opening_goes_around_servers_that_cannot_be_dialled() -> None:
    """Each of them is banned; no stream to the others is left open."""
    async with swarm_of(["0:2", "0:2", "2:4"]) as swarm:
        swarm.network.cut(swarm.servers[0].peer)

        session = await swarm.model.open_session(max_length=10)

        assert [hop.peer for hop in session.route] == ["s1", "s2"]
        assert swarm.banned() == ["s0"]
        await session.close()
        assert all(server.node.pipes == set() for server in swarm.servers)


async def test_opening_fails_with_the_gap_when_all_are_gone() -> None:
    """The last failure is chained."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        swarm.network.cut(swarm.servers[1].peer)

        with pytest.raises(NoRouteError) as refused:
            await swarm.model.open_session(max_length=10)

        assert refused.value.missing == (BlockRange(2, 4),)
        assert isinstance(refused.value.__cause__, PeerUnreachableError)
        assert swarm.model.missing_blocks() == (BlockRange(2, 4),)


async def test_a_banned_server_is_a_last_resort() -> None:
    """After it came back nobody waits for the ban to end."""
    async with swarm_of(["0:4"]) as swarm:
        swarm.network.cut(swarm.servers[0].peer)
        with pytest.raises(NoRouteError):
            await swarm.model.open_session(max_length=10)
        swarm.network.heal(swarm.servers[0].peer)

        session = await swarm.model.open_session(max_length=10)

        assert (await session.step(hidden_states(1))).shape == (1, 1, FACTS.hidden_size)


async def test_retries_are_bounded() -> None:
    """The refusal of the last peer is the answer."""
    settings = RoutingSettings(max_retries=1)
    async with swarm_of(["0:4", "0:4", "0:4"], settings) as swarm:

        async def refuse(request: bytes, caller: object) -> bytes:
            raise ValueError("not today")

        for server in swarm.servers:
            await server.node.serve_unary("TransformerConnectionHandler.rpc_info", refuse)

        with pytest.raises(PeerRefusedError):
            await swarm.model.open_session(max_length=10)

        assert len(swarm.banned()) == 2


async def test_servers_that_cannot_be_reached_are_no_retries() -> None:
    """Each is tried once, and the answer names the blocks that nobody serves."""
    settings = RoutingSettings(max_retries=1)
    async with swarm_of(["0:4", "0:4", "0:4"], settings) as swarm:
        for server in swarm.servers:
            swarm.network.cut(server.peer)

        with pytest.raises(NoRouteError, match="0:4"):
            await swarm.model.open_session(max_length=10)

        assert len(swarm.banned()) == 3


async def test_a_server_that_does_not_describe_itself_in_time_is_banned() -> None:
    """Dialling has one deadline for all hops."""
    async with swarm_of(["0:4"], QUICK) as swarm:

        async def never(request: bytes, caller: object) -> bytes:
            await asyncio.Event().wait()
            return b""

        await swarm.servers[0].node.serve_unary("TransformerConnectionHandler.rpc_info", never)

        with pytest.raises(NoRouteError) as refused:
            await swarm.model.open_session(max_length=10)

        assert isinstance(refused.value.__cause__, PeerUnreachableError)
        assert swarm.banned() == ["s0"]


async def test_a_server_of_another_model_is_refused() -> None:
    """Somebody published the wrong prefix."""
    async with swarm_of(["0:4"]) as swarm:
        server = swarm.servers[0]
        server.description = replace(server.description, hidden_size=9)

        with pytest.raises(NoRouteError) as refused:
            await swarm.model.open_session(max_length=10)

        assert isinstance(refused.value.__cause__, PeerMisbehavedError)


async def test_a_server_describes_itself_once() -> None:
    """Until it fails; it may come back as another program."""
    async with swarm_of(["0:4"]) as swarm:
        for _ in range(3):
            await (await swarm.model.open_session(max_length=10)).close()
        assert swarm.servers[0].num_infos == 1

        swarm.network.cut(swarm.servers[0].peer)
        with pytest.raises(NoRouteError):
            await swarm.model.open_session(max_length=10)
        swarm.network.heal(swarm.servers[0].peer)
        await swarm.model.open_session(max_length=10)

        assert swarm.servers[0].num_infos == 2


@pytest.mark.parametrize(("max_length", "batch_size"), [(0, 1), (5, 0)])
async def test_a_session_needs_room(max_length: int, batch_size: int) -> None:
    """Servers would refuse it later and less clearly."""
    async with swarm_of(["0:4"]) as swarm:
        with pytest.raises(ValueError, match="room"):
            await swarm.model.open_session(max_length=max_length, batch_size=batch_size)


@pytest.mark.parametrize(("max_length", "tenant"), [(2**32, ""), (10, "x" * 257)])
async def test_a_session_fits_its_opening(max_length: int, tenant: str) -> None:
    """A server would end the stream of all sessions, not of this one."""
    async with swarm_of(["0:4"]) as swarm:
        with pytest.raises(ValueError, match="at most"):
            await swarm.model.open_session(max_length=max_length, tenant=tenant)


async def test_what_open_sessions_keep_is_told() -> None:
    """Each hop's inputs; those of a session that was closed are gone."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        session = await swarm.model.open_session(max_length=10)
        await session.step(hidden_states(3))
        kept = 2 * hidden_states(3).nbytes

        assert swarm.model.history_bytes() == session.history_bytes == kept
        await session.close()
        assert swarm.model.history_bytes() == 0


async def test_the_map_survives_a_lookup_that_fails() -> None:
    """What was known stays, and the watch goes on."""
    network = MemoryNetwork()
    await ScriptedServer.start(network, "server", "0:4")
    node = network.node("client")
    connection = SwarmConnection(node, RoutingSettings(update_period_s=0.01))
    model = await connection.watch(FACTS)
    network.cut(node.peer_id)
    await eventually(lambda: model.servers()[0].ping_s == float("inf"))

    network.heal(node.peer_id)
    await eventually(lambda: model.servers()[0].ping_s == 0.0)

    await connection.close()


async def test_a_session_over_a_part_runs_only_its_blocks() -> None:
    """Deep prompts are counted from its first block; servers of the others are left alone."""
    async with swarm_of(["0:2", "2:3", "3:4"]) as swarm:
        part = BlockRange(1, 3)
        session = await swarm.model.open_session(max_length=10, blocks=part)
        prompts = torch.randn(2, 1, 1, FACTS.hidden_size)

        output = await session.step(hidden_states(2), prompts=prompts)

        assert output.equal(expected_output(hidden_states(2), part))
        assert [str(hop.blocks) for hop in session.route] == ["1:2", "2:3"]
        first, second = (server.extras[0][0] for server in swarm.servers[:2])
        assert first is not None
        assert second is not None
        assert first.equal(prompts[:1])
        assert second.equal(prompts[1:])


@pytest.mark.parametrize("blocks", [BlockRange(1, 1), BlockRange(2, 5)])
async def test_a_session_needs_blocks_that_the_model_has(blocks: BlockRange) -> None:
    """Refused before any server is asked."""
    async with swarm_of(["0:4"]) as swarm:
        with pytest.raises(ValueError, match=f"0:4, got {blocks}"):
            await swarm.model.open_session(max_length=10, blocks=blocks)


@pytest.mark.parametrize(
    "settings",
    [
        RoutingSettings(allowed_servers=(PeerId("s1"),)),
        RoutingSettings(blocked_servers=(PeerId("s0"),)),
    ],
)
async def test_only_allowed_servers_are_used(settings: RoutingSettings) -> None:
    """They are still shown; where only the others serve, there is no route."""
    async with swarm_of(["0:4", "0:4"], settings) as swarm:
        session = await swarm.model.open_session(max_length=10)

        assert [hop.peer for hop in session.route] == ["s1"]
        assert len(swarm.model.servers()) == 2
        swarm.network.cut(PeerId("s1"))
        with pytest.raises(NoRouteError):
            await swarm.model.open_session(max_length=10)
