"""Peers that were cut off from each other, and what they know of each other's records later."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, suppress

import pytest

from swarm_protocol.errors import SwarmError
from swarm_protocol.hivemind import HivemindNode
from swarm_protocol.node import RecordEntry
from tests.harness.network.emulated_network import EmulatedNetwork, emulated_network
from tests.harness.network.hosts import client_settings

pytestmark = pytest.mark.timeout(90)

_FIND_S = 20


@pytest.fixture
def network() -> Iterator[EmulatedNetwork]:
    with emulated_network(4) as network:
        yield network


@pytest.fixture
async def nodes(network: EmulatedNetwork) -> AsyncIterator[list[HivemindNode]]:
    """One on each host but the last; the others have joined by the first one."""
    async with AsyncExitStack() as stack:
        started: list[HivemindNode] = []
        for host in network.hosts[:3]:
            with host.entered():
                peers = started[0].maddrs if started else ()
                started.append(await HivemindNode.start(host.node_settings(*peers)))
            stack.push_async_callback(started[-1].close)
        yield started


async def publish(node: HivemindNode, key: str) -> None:
    assert await node.store([RecordEntry(key, node.peer_id, 1)], ttl_s=60)


async def find(node: HivemindNode, key: str) -> None:
    """Look a record up until it is found."""
    async with asyncio.timeout(_FIND_S):
        while not await node.lookup([key]):  # noqa: ASYNC110  (nobody tells of new records)
            await asyncio.sleep(0.1)


async def look_around(nodes: Sequence[HivemindNode]) -> None:
    """Let nodes call the peers that they know."""

    async def look(node: HivemindNode) -> None:
        with suppress(SwarmError):
            await node.lookup([f"nothing {number}" for number in range(4)])

    await asyncio.gather(*map(look, nodes))


async def test_a_client_that_was_cut_off_finds_back(
    network: EmulatedNetwork, nodes: list[HivemindNode]
) -> None:
    """While it was alone, nobody answered it; then it finds what others have published since."""
    host = network.hosts[3]
    with host.entered():
        client = await HivemindNode.start(client_settings(host, *nodes[0].maddrs))
    try:
        network.isolate(host)
        await look_around([client])

        network.isolate(host, is_cut=False)
        await publish(nodes[1], "news")

        await find(client, "news")
    finally:
        await client.close()


async def test_two_parts_of_a_swarm_meet_again(
    network: EmulatedNetwork, nodes: list[HivemindNode]
) -> None:
    """Each has lived on without the other; the first peer has been alone."""

    def set_partition(*, is_cut: bool) -> None:
        for other in network.hosts[1:3]:
            network.cut(network.hosts[0], other, is_cut=is_cut)
            network.cut(other, network.hosts[0], is_cut=is_cut)

    set_partition(is_cut=True)
    await look_around(nodes)

    set_partition(is_cut=False)
    await publish(nodes[0], "news of one")
    await publish(nodes[1], "news of the other")

    await find(nodes[2], "news of one")
    await find(nodes[0], "news of the other")
