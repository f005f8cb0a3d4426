"""A network on which what a client hears of a server can be spoiled at any moment."""

import asyncio
from collections.abc import Collection
from enum import Enum, auto
from typing import Final

from swarm_protocol.identifiers import PeerId
from swarm_protocol.memory_node import MemoryCallStream, MemoryNode
from tests.integration.swarm_client.lanes.mixed_swarm import CountingNode, MixedNetwork

LATE_S: Final = 1.0


class Fault(Enum):
    """What happens to a server, seen from the client."""

    CUT = auto()
    """Server and daemon are gone: streams break, nobody is there any more."""
    RESET = auto()
    """Streams break once."""
    SILENT = auto()
    """All is taken and nothing answered, for ever: stopped, or killed without its daemon."""
    LATE = auto()
    """Each reply comes a second later; pings are answered at once."""
    GARBAGE = auto()
    """Replies are no frames."""
    TRUNCATED = auto()
    """Replies lack their last bytes."""


class FaultyNetwork(MixedNetwork):
    """A network with faults between the node named `client` and servers."""

    def __init__(self, petals_only: Collection[str] = ()) -> None:
        super().__init__(petals_only)
        self.faults: dict[PeerId, Fault] = {}

    def node(self, name: str) -> MemoryNode:
        if name != "client":
            return super().node(name)
        node = _FaultyNode(self, PeerId(name))
        self.nodes[node.peer_id] = node
        return node

    def strike(self, peer: PeerId, fault: Fault) -> None:
        """Let something happen to a server; it stays so."""
        if fault is Fault.CUT:
            self.cut(peer)
        elif fault is Fault.RESET:
            self.cut(peer)
            self.heal(peer)
        else:
            self.faults[peer] = fault


class _FaultyNode(CountingNode):
    async def ping(self, peer: PeerId) -> float:
        assert isinstance(self._network, FaultyNetwork)
        if self._network.faults.get(peer) is Fault.SILENT:
            await asyncio.Event().wait()
        return await super().ping(peer)

    async def call(self, peer: PeerId, method: str, request: bytes) -> bytes:
        return await _spoiled(self._network, peer, await super().call(peer, method, request))

    async def open_stream(self, peer: PeerId, method: str) -> MemoryCallStream:
        stream = await super().open_stream(peer, method)
        return _FaultyStream(self._network, peer, stream)


class _FaultyStream(MemoryCallStream):
    def __init__(self, network: object, peer: PeerId, stream: MemoryCallStream) -> None:
        super().__init__(stream._pipe)
        self._network = network
        self._peer = peer

    async def receive(self) -> bytes | None:
        reply = await super().receive()
        return None if reply is None else await _spoiled(self._network, self._peer, reply)


async def _spoiled(network: object, peer: PeerId, reply: bytes) -> bytes:
    assert isinstance(network, FaultyNetwork)
    match network.faults.get(peer):
        case Fault.SILENT:
            await asyncio.Event().wait()
        case Fault.LATE:
            await asyncio.sleep(LATE_S)
        case Fault.GARBAGE:
            return b"\xff" * 20
        case Fault.TRUNCATED:
            return reply[:-3]
    return reply
