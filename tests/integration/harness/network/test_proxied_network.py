"""Emulated links through proxies, for systems without namespaces."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from swarm_protocol.hivemind.node import HivemindNode
from swarm_protocol.identifiers import PeerId
from tests.harness.network.emulated_network import (
    EmulatedNetwork,
    UnsupportedTermsError,
    proxied_network,
)
from tests.harness.network.link import LinkTerms

_WAIT_S = 1.0


@pytest.fixture
def network() -> Iterator[EmulatedNetwork]:
    """Three hosts with perfect links."""
    with proxied_network(3, reason="a test wants proxies") as network:
        yield network


@asynccontextmanager
async def two_nodes(network: EmulatedNetwork) -> AsyncIterator[tuple[HivemindNode, HivemindNode]]:
    """A node that echoes on the first host, and one on the second that knows it."""

    async def echo(request: bytes, _caller: PeerId) -> bytes:
        return request

    here, there, _ = network.hosts
    async with AsyncExitStack() as stack:
        echoing = await HivemindNode.start(here.node_settings())
        stack.push_async_callback(echoing.close)
        await echoing.serve_unary("echo", echo)
        calling = await HivemindNode.start(there.node_settings(*echoing.maddrs))
        stack.push_async_callback(calling.close)
        yield echoing, calling


async def round_trip_ms(calling: HivemindNode, echoing: HivemindNode) -> float:
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    async with asyncio.timeout(_WAIT_S):
        await calling.call(echoing.peer_id, "echo", b"?")
    return 1e3 * (loop.time() - started_at)


async def test_calls_between_nodes_take_both_delays(network: EmulatedNetwork) -> None:
    """Each direction has its own, though one connection serves both."""
    here, there, _ = network.hosts

    async with two_nodes(network) as (echoing, calling):
        await round_trip_ms(calling, echoing)
        network.shape(there, here, LinkTerms(delay_s=0.08))
        network.shape(here, there, LinkTerms(delay_s=0.02))
        times_ms = [await round_trip_ms(calling, echoing) for _ in range(4)]

    assert min(times_ms) >= 100
    assert min(times_ms) < 130  # this machine may have others to serve, but not each time


async def test_cut_in_one_direction_is_silence_and_heals(network: EmulatedNetwork) -> None:
    """The request arrives, the answer does not; afterwards nothing was lost."""
    here, there, _ = network.hosts

    async with two_nodes(network) as (echoing, calling):
        await round_trip_ms(calling, echoing)
        network.cut(here, there)
        with pytest.raises(TimeoutError):
            await round_trip_ms(calling, echoing)
        network.cut(here, there, is_cut=False)
        await round_trip_ms(calling, echoing)


def test_what_proxies_cannot_do_is_refused_and_said(network: EmulatedNetwork) -> None:
    """A test that needs it can skip itself with the reason."""
    here, there, _ = network.hosts

    with pytest.raises(UnsupportedTermsError, match="a test wants proxies"):
        network.shape(here, there, LinkTerms(loss=0.1))
