"""Block servers of which some speak the Petals dialect only, and a client that watches them."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.models import LocalParts, load_local_parts, read_facts
from swarm_client.session import InferenceSession
from swarm_client.settings import RoutingSettings
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.dialect.methods import HELLO
from swarm_protocol.identifiers import PeerId
from swarm_protocol.memory_node import MemoryCallStream, MemoryNetwork, MemoryNode
from swarm_protocol.node import StreamHandler, UnaryHandler
from swarm_protocol.serializer import pack, unpack
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.harness.server_swarm import server_swarm


class MixedNetwork(MemoryNetwork):
    """A network that counts streams, and on which some nodes speak less of our dialect, or none.

    Attributes:
        num_streams: opened so far by the client, by peer and method.
        received_bytes: by the client in streams, by peer.
    """

    def __init__(self, petals_only: Collection[str], without_flags: Collection[str] = ()) -> None:
        super().__init__()
        self.num_streams = Counter[tuple[str, str]]()
        self.received_bytes = Counter[str]()
        self._petals_only = petals_only
        self._without_flags = without_flags

    def node(self, name: str) -> MemoryNode:
        kind = PetalsNode if name in self._petals_only else CountingNode
        kind = NodeWithoutFlags if name in self._without_flags else kind
        node = kind(self, PeerId(name))
        self.nodes[node.peer_id] = node
        return node


class CountingNode(MemoryNode):
    """Counts the streams that it opens, and what it receives, if it is the client."""

    async def open_stream(self, peer: PeerId, method: str) -> MemoryCallStream:
        stream = await super().open_stream(peer, method)
        assert isinstance(self._network, MixedNetwork)
        if self.peer_id != "client":
            return stream
        self._network.num_streams[peer, method] += 1
        return CountingStream(stream, peer, self._network.received_bytes)


class CountingStream(MemoryCallStream):
    """Counts what it receives."""

    def __init__(self, stream: MemoryCallStream, peer: PeerId, num_bytes: Counter[str]) -> None:
        super().__init__(stream._pipe)
        self._peer = peer
        self._num_bytes = num_bytes

    async def receive(self) -> bytes | None:
        data = await super().receive()
        self._num_bytes[self._peer] += len(data or b"")
        return data


class NodeWithoutFlags(CountingNode):
    """Serves as those did that knew no flag of steps but the first."""

    async def serve_unary(self, method: str, handler: UnaryHandler) -> None:
        async def answer(request: bytes, caller: PeerId) -> bytes:
            fields = unpack(await handler(request, caller))
            assert isinstance(fields, dict)
            del fields["step_flags"]
            return pack(fields)

        await super().serve_unary(method, answer if method == HELLO else handler)


class PetalsNode(CountingNode):
    """Serves the methods of Petals only."""

    async def serve_unary(self, method: str, handler: UnaryHandler) -> None:
        if not method.startswith("swarmgate."):
            await super().serve_unary(method, handler)

    async def serve_stream(self, method: str, handler: StreamHandler) -> None:
        if not method.startswith("swarmgate."):
            await super().serve_stream(method, handler)


@dataclass(frozen=True, slots=True)
class Client:
    """What a test looks at."""

    network: MixedNetwork
    servers: Sequence[BlockServer]
    model: RemoteModel
    parts: LocalParts

    async def next_token(self, session: InferenceSession, token_ids: Sequence[int]) -> int:
        embeds = self.parts.embed(torch.tensor([token_ids]))
        hidden = await session.step(embeds, only_last=True)
        return int(self.parts.logits(hidden[:, -1]).argmax())

    async def greedy(
        self, session: InferenceSession, prompt: Sequence[int], num_new: int
    ) -> list[int]:
        tokens = [await self.next_token(session, prompt)]
        while len(tokens) < num_new:
            tokens.append(await self.next_token(session, tokens[-1:]))
        return tokens


@asynccontextmanager
async def mixed_swarm(
    model: Path,
    splits: Sequence[str],
    petals_only: Collection[str] = (),
    settings: ServerSettings | None = None,
    *,
    routing: RoutingSettings | None = None,
    network: MixedNetwork | None = None,
) -> AsyncIterator[Client]:
    """Yield a client; servers are called `server-0`, `server-1` and so on."""
    checkpoint = Checkpoint.open(str(model))
    network = network or MixedNetwork(petals_only)
    async with server_swarm(model, splits, settings, network) as (_, servers):
        connection = SwarmConnection(network.node("client"), routing or RoutingSettings(ban_s=0.1))
        remote = await connection.watch(read_facts(checkpoint))
        parts = load_local_parts(checkpoint, dtype=torch.float32)
        yield Client(network, servers, remote, parts)
        await connection.close()
