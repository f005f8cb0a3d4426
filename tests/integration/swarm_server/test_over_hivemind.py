"""What only a real connection shows: how it is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from swarm_protocol.hivemind import HivemindNode, NodeSettings
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.integration.swarm_server.raw_session import RawSession, hidden_states


@pytest.fixture
async def server(tiny_llama: Path) -> AsyncIterator[tuple[HivemindNode, BlockServer]]:
    """A server on libp2p, and its node."""
    async with AsyncExitStack() as stack:
        node = await HivemindNode.start(NodeSettings())
        stack.push_async_callback(node.close)
        settings = ServerSettings(model=str(tiny_llama), dtype="float32", threads=1, blocks="0:2")
        server = await BlockServer.start(node, settings)
        stack.push_async_callback(server.close)
        yield node, server


@pytest.mark.parametrize("how", ["closed stream", "lost peer"])
async def test_who_leaves_without_a_word_frees_the_memory_within_a_second(
    server: tuple[HivemindNode, BlockServer], how: str
) -> None:
    """The connection tells, not a time-out."""
    node, block_server = server
    free = block_server.kv_tokens_left
    caller = await HivemindNode.start(NodeSettings(initial_peers=node.maddrs))
    session = await RawSession.start(caller, block_server)
    await session.step(hidden_states(1, 2))
    assert block_server.num_sessions == 1

    session.stream.close()
    if how == "lost peer":
        await caller.close()

    async with asyncio.timeout(1):
        while block_server.num_sessions:  # noqa: ASYNC110  (the connection tells the server)
            await asyncio.sleep(0.01)
    assert block_server.kv_tokens_left == free
    await caller.close()
