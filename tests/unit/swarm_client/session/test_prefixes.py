"""Sessions that begin with what servers have cached."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import torch

from swarm_client.connection import SwarmConnection
from swarm_client.errors import SessionLostError
from swarm_client.session import InferenceSession
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.memory_node import MemoryNetwork
from tests.unit.swarm_client.lanes.scripted_lane_server import ScriptedLaneServer
from tests.unit.swarm_client.scripted_server import FACTS, ScriptedServer, expected_output
from tests.unit.swarm_client.scripted_swarm import SETTINGS, hidden_states

TOKEN_IDS = range(10)
"""Two whole pages, and two tokens more."""


@dataclass
class Prefixes:
    """Two servers in a row, and a session over both."""

    network: MemoryNetwork
    first: ScriptedLaneServer
    second: ScriptedLaneServer
    session: InferenceSession


@asynccontextmanager
async def two_servers(num_first: int, num_second: int) -> AsyncIterator[Prefixes]:
    """Yield a session; the servers say that they have so many tokens cached."""
    network = MemoryNetwork()
    servers = [await ScriptedLaneServer.start(network, name) for name in ("s0", "s1")]
    for server, blocks, num_cached in zip(
        servers, ("0:2", "2:4"), (num_first, num_second), strict=True
    ):
        server.cached_tokens = num_cached
        await server.announce(blocks)
    servers[0].neighbour = servers[1]
    connection = SwarmConnection(network.node("client"), SETTINGS)
    model = await connection.watch(FACTS)
    session = await model.open_session(max_length=32, tenant="key")
    yield Prefixes(network, servers[0], servers[1], session)
    await connection.close()
    for node in network.nodes.values():
        await node.close()


async def test_a_session_begins_where_the_server_that_knows_least_is() -> None:
    """The other one forgets what it knows more: its first step is at that position."""
    async with two_servers(8, 4) as swarm:
        await swarm.session.reuse_prefix(TOKEN_IDS)
        assert swarm.session.position == 4

        hidden = hidden_states(6)
        output = await swarm.session.step(hidden)

        assert torch.equal(output, expected_output(hidden))
        assert swarm.first.steps[0].entries[0].position == 4
        assert swarm.session.position == 10


async def test_the_last_token_is_always_run() -> None:
    """Its output is what the next token is chosen from."""
    async with two_servers(8, 8) as swarm:
        await swarm.session.reuse_prefix(TOKEN_IDS[:8])

        assert swarm.session.position == 7


async def test_the_tenant_and_its_hashes_go_with_the_opening() -> None:
    """A server mixes in who is asking; tenants of one gateway are told apart by the hashes."""
    async with two_servers(0, 0) as swarm:
        await swarm.session.reuse_prefix(TOKEN_IDS)

        (opening,) = swarm.first.openings
        assert opening.tenant == "key"
        assert len(opening.prefix_hashes) == 2
        assert swarm.second.openings[0].prefix_hashes == opening.prefix_hashes


async def test_a_prompt_of_less_than_a_page_is_not_asked_about() -> None:
    """The first token does not wait for a round trip more."""
    async with two_servers(0, 0) as swarm:
        await swarm.session.reuse_prefix(TOKEN_IDS[:3])

        assert not swarm.first.openings
        assert swarm.session.position == 0


async def test_only_a_fresh_session_asks() -> None:
    """Later, the servers hold what it has run."""
    async with two_servers(8, 8) as swarm:
        await swarm.session.step(hidden_states(2))
        swarm.session.roll_back(0)

        await swarm.session.reuse_prefix(TOKEN_IDS)

        assert swarm.session.position == 0


async def test_a_lost_server_ends_a_session_that_never_knew_its_first_inputs() -> None:
    """Whoever has the tokens begins anew."""
    async with two_servers(8, 8) as swarm:
        await swarm.session.reuse_prefix(TOKEN_IDS)
        await swarm.session.step(hidden_states(2))
        swarm.network.cut(swarm.second.peer)

        with pytest.raises(SessionLostError):
            await swarm.session.step(hidden_states(1))

        assert swarm.session.is_closed


async def test_a_server_that_fails_when_asked_is_replaced_by_the_first_step() -> None:
    """Nothing is lost yet; the others begin at the start as well."""
    async with two_servers(8, 8) as swarm:
        swarm.second.refused = ["kv_memory_exhausted"]
        await swarm.session.reuse_prefix(TOKEN_IDS)
        assert swarm.session.position == 0

        hidden = hidden_states(3)
        output = await swarm.session.step(hidden)

        assert torch.equal(output, expected_output(hidden))
        assert len(swarm.second.openings) == 2


async def test_servers_of_both_dialects_make_one_route() -> None:
    """Each is spoken to in its own; no prefix is shared, as one of them has no name for it."""
    network = MemoryNetwork()
    lane_server = await ScriptedLaneServer.start(network, "ours")
    await lane_server.announce("0:2")
    petals = await ScriptedServer.start(network, "petals", "2:4")
    connection = SwarmConnection(network.node("client"), SETTINGS)
    model = await connection.watch(FACTS)
    session = await model.open_session(max_length=32)
    await session.reuse_prefix(TOKEN_IDS)

    hidden = hidden_states(3)
    output = await session.step(hidden)

    assert torch.equal(output, expected_output(hidden, BlockRange(0, 4)))
    assert len(lane_server.steps) == len(petals.steps) == 1
    timings = session.last_step.hops
    assert [timing.compute_ms for timing in timings] == [2.5, None]
    await session.close()
    await connection.close()
    for node in network.nodes.values():
        await node.close()
