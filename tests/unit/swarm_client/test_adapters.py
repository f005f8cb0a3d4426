"""A client that wants an adapter: whom it uses, and what it says to them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.errors import NoRouteError
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.records import ServerState
from tests.unit.swarm_client.scripted_server import FACTS, ScriptedServer
from tests.unit.swarm_client.scripted_swarm import Swarm, hidden_states, swarm_of


async def announce(server: ScriptedServer, *adapters: str) -> None:
    server.record = server.record.model_copy(update={"adapters": adapters})
    await server.announce(ServerState.ONLINE)


@asynccontextmanager
async def watching(swarm: Swarm, adapter: str | None) -> AsyncIterator[RemoteModel]:
    connection = SwarmConnection(swarm.network.node("another client"))
    try:
        yield await connection.watch(FACTS, active_adapter=adapter)
    finally:
        await connection.close()


async def test_only_servers_that_announce_the_adapter_are_used() -> None:
    """All servers are shown, with what they announce."""
    async with swarm_of(["0:4", "0:4", "0:4"]) as swarm:
        await announce(swarm.servers[1], "other", "mine")
        await announce(swarm.servers[2], "other")

        async with watching(swarm, "mine") as model:
            session = await model.open_session(max_length=10)

            assert [hop.peer for hop in session.route] == ["s1"]
            assert [view.adapters for view in model.servers()] == [
                (),
                ("other", "mine"),
                ("other",),
            ]


async def test_the_first_message_of_a_session_names_the_adapter() -> None:
    """It holds for the whole session."""
    async with swarm_of(["0:4"]) as swarm:
        await announce(swarm.servers[0], "mine")

        async with watching(swarm, "mine") as model:
            session = await model.open_session(max_length=10)
            await session.step(hidden_states(2))
            await session.step(hidden_states(1))

        named = [step.active_adapter for step in swarm.servers[0].steps]
        assert named == ["mine", None]


async def test_without_an_adapter_every_server_will_do() -> None:
    """Adapters change nothing for those who do not ask for one."""
    async with swarm_of(["0:4"]) as swarm:
        await announce(swarm.servers[0], "mine")

        session = await swarm.model.open_session(max_length=10)
        await session.step(hidden_states(1))

        assert swarm.servers[0].steps[0].active_adapter is None


async def test_the_error_names_the_adapter_that_nobody_has() -> None:
    """And the blocks for which nobody has it."""
    async with swarm_of(["0:2", "2:4"]) as swarm:
        await announce(swarm.servers[0], "mine")

        async with watching(swarm, "mine") as model:
            assert model.missing_blocks() == (BlockRange(2, 4),)
            with pytest.raises(NoRouteError, match="2:4 with the adapter mine") as refused:
                await model.open_session(max_length=10)

    assert refused.value.adapter == "mine"
