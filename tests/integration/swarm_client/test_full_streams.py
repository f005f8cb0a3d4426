"""Servers that take few streams: what clients need of them, and what they make of a refusal."""

import asyncio
from pathlib import Path

import pytest
import torch

from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.errors import CapacityError, ServerBusyError
from swarm_client.models import read_facts
from swarm_client.settings import RoutingSettings
from swarm_protocol.checkpoint import Checkpoint
from swarm_server.settings import ServerSettings
from tests.integration.swarm_client.lanes.mixed_swarm import Client, mixed_swarm

_NO_RETRIES = RoutingSettings(max_retries=0)


def taking(model: Path, max_streams: int) -> ServerSettings:
    """Return settings of servers that take so many streams of a peer, and of all."""
    return ServerSettings(
        model=str(model),
        dtype="float32",
        threads=1,
        max_streams=max_streams,
        max_streams_per_peer=max_streams,
    )


async def second_client(client: Client, model: Path) -> RemoteModel:
    """Return the model as another peer sees it, which gives up at once; it closes with the node."""
    connection = SwarmConnection(client.network.node("second"), _NO_RETRIES)
    return await connection.watch(read_facts(Checkpoint.open(str(model))))


async def test_all_sessions_of_a_client_need_one_stream(tiny_llama: Path) -> None:
    """And one more for each server before, which pushes."""
    async with mixed_swarm(tiny_llama, ["0:2", "2:4"], settings=taking(tiny_llama, 2)) as client:
        sessions = [await client.model.open_session(max_length=20) for _ in range(12)]

        tokens = await asyncio.gather(*(client.greedy(one, [1, 2, 3], 4) for one in sessions))

        assert all(some == tokens[0] for some in tokens)
        assert set(client.network.num_streams.values()) == {1}


async def test_a_server_without_room_for_a_stream_is_full_not_lost(tiny_llama: Path) -> None:
    """Sessions of others are refused as for want of memory, so the server is not banned."""
    async with mixed_swarm(tiny_llama, ["0:4"], settings=taking(tiny_llama, 1)) as client:
        session = await client.model.open_session(max_length=20)
        await client.next_token(session, [1, 2])
        other = await second_client(client, tiny_llama)
        refused = await other.open_session(max_length=20)

        with pytest.raises(CapacityError):
            await refused.step(client.parts.embed(torch.tensor([[1, 2]])))

        assert other.missing_blocks() == ()
        await client.next_token(session, [3])
        await other.stop()


async def test_a_pass_that_finds_no_stream_hears_that_the_server_is_busy(
    tiny_llama: Path,
) -> None:
    """As when there are too many requests."""
    async with mixed_swarm(tiny_llama, ["0:4"], settings=taking(tiny_llama, 1)) as client:
        session = await client.model.open_session(max_length=20)
        await client.next_token(session, [1, 2])
        other = await second_client(client, tiny_llama)
        large = torch.zeros(1, 8000, client.model.facts.hidden_size)

        with pytest.raises(ServerBusyError):
            await other.run_forward(large)

        await other.stop()
