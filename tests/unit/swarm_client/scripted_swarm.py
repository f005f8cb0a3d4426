"""A swarm of scripted servers on a memory network, and a client that watches it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import torch
from torch import Tensor

from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.settings import RoutingSettings
from swarm_protocol.identifiers import PeerId
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from tests.unit.swarm_client.scripted_server import FACTS, ScriptedServer

SETTINGS = RoutingSettings(prefill_chunk_tokens=4, max_step_tokens=8, wait_for_blocks_s=0)


class ClientNode(MemoryNode):
    """Some peers do not answer its pings: `stopped`."""

    def __init__(self, network: MemoryNetwork) -> None:
        super().__init__(network, network.node("client").peer_id)
        self.stopped: set[PeerId] = set()

    async def ping(self, peer: PeerId) -> float:
        if peer in self.stopped:
            await asyncio.Event().wait()
        return await super().ping(peer)


class Swarm:
    """Scripted servers, and a client that watches them."""

    def __init__(self, node: ClientNode, servers: list[ScriptedServer], model: RemoteModel) -> None:
        self.network = node._network
        self.servers = servers
        self.model = model
        self._node = node

    def stop(self, server: ScriptedServer) -> None:
        """Let a server take everything and answer nothing any more, pings neither."""
        server.is_silent = True
        self._node.stopped.add(server.peer)

    def is_idle(self) -> bool:
        """No server has a stream open."""
        return not any(server.node.pipes for server in self.servers)

    def banned(self) -> list[str]:
        return [view.peer for view in self.model.servers() if view.is_banned]


@asynccontextmanager
async def swarm_of(
    splits: Sequence[str], settings: RoutingSettings = SETTINGS
) -> AsyncIterator[Swarm]:
    network = MemoryNetwork()
    servers = [
        await ScriptedServer.start(network, f"s{index}", blocks)
        for index, blocks in enumerate(splits)
    ]
    node = ClientNode(network)
    connection = SwarmConnection(node, settings)
    try:
        yield Swarm(node, servers, await connection.watch(FACTS))
    finally:
        await connection.close()
        for each in network.nodes.values():
            await each.close()


def hidden_states(num_tokens: int, batch_size: int = 1) -> Tensor:
    """Return whole numbers, whose sums have no rounding."""
    generator = torch.Generator().manual_seed(num_tokens)
    shape = (batch_size, num_tokens, FACTS.hidden_size)
    return torch.randint(-9, 9, shape, generator=generator).float()


async def eventually(is_true: Callable[[], bool]) -> None:
    """Let other tasks of this loop run until they have made the condition true."""
    while not is_true():  # noqa: ASYNC110  (several tasks together make it true)
        await asyncio.sleep(0.001)
