"""Streams at once, of one peer and of all."""

import asyncio
from dataclasses import dataclass, field

import pytest

from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.node import CallStream, ServedStream
from swarm_server.errors import TooManyStreamsError
from swarm_server.handlers import OpenStreams


@dataclass
class EchoServer:
    """Gives frames back on two methods, within the bounds of one `OpenStreams`."""

    streams: OpenStreams
    network: MemoryNetwork = field(default_factory=MemoryNetwork)

    async def start(self) -> MemoryNode:
        """Serve."""
        node = self.network.node("server")
        for method in ("one", "other"):
            await node.serve_stream(method, self.streams.bounded(_echo))
        return node

    async def open(self, peer: str, method: str = "one") -> CallStream:
        """Open a stream as a peer of this name, and hear the server on it.

        Raises:
            PeerRefusedError: it does not take it.
        """
        node = self.network.node(peer)
        stream = await node.open_stream(self.network.nodes["server"].peer_id, method)  # type: ignore[index]
        await stream.send(b"there?")
        assert await stream.receive() == b"there?"
        return stream


async def _echo(stream: ServedStream) -> None:
    while (frame := await stream.receive()) is not None:
        await stream.send(frame)


async def serving(*, max_streams: int, max_per_peer: int) -> EchoServer:
    """Return a server with these bounds."""
    server = EchoServer(OpenStreams(max_streams=max_streams, max_per_peer=max_per_peer))
    await server.start()
    return server


async def test_a_peer_has_no_more_streams_than_its_share() -> None:
    """Whatever they are for; others are served as ever."""
    server = await serving(max_streams=10, max_per_peer=2)
    await server.open("greedy")
    await server.open("greedy", "other")

    with pytest.raises(PeerRefusedError, match="its maximum of 2 open streams from one peer"):
        await server.open("greedy")

    await server.open("modest")


async def test_all_peers_together_have_no_more_than_there_are() -> None:
    """Identities are free of charge."""
    server = await serving(max_streams=2, max_per_peer=2)
    await server.open("first")
    await server.open("second")

    with pytest.raises(PeerRefusedError, match="its maximum of 2 open streams from all peers"):
        await server.open("third")


@pytest.mark.parametrize("is_orderly", [True, False])
async def test_a_stream_that_has_ended_makes_room(is_orderly: bool) -> None:
    """In good order or not; and what was refused has taken none."""
    server = await serving(max_streams=1, max_per_peer=1)
    first = await server.open("peer")
    with pytest.raises(PeerRefusedError):
        await server.open("peer")

    if is_orderly:
        await first.finish()
        assert await first.receive() is None
    first.close()
    await asyncio.sleep(0)

    await server.open("peer")
    with pytest.raises(PeerRefusedError):
        await server.open("peer")


def test_the_refusal_may_be_tried_again_later() -> None:
    """Clients take the text of it for want of room."""
    error = TooManyStreamsError(3, "from one peer")

    assert error.retryable
    assert "its maximum of" in str(error)
