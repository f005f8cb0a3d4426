"""Block servers in this process, on a memory network, for tests of whoever talks to them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from swarm_protocol.memory_node import MemoryNetwork
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings


@asynccontextmanager
async def server_swarm(
    model: Path | str,
    splits: Sequence[str],
    settings: ServerSettings | None = None,
    network: MemoryNetwork | None = None,
) -> AsyncIterator[tuple[MemoryNetwork, list[BlockServer]]]:
    """Start one server per split and yield the network and the servers, in that order.

    Servers are named `server-0`, `server-1` … on the network; each computes with one thread. They
    are closed at the end, and so are their nodes.

    Args:
        model: directory of the model.
        splits: blocks of each server, e.g. `["0:2", "2:4"]`.
        settings: of all servers; model and blocks are filled in here.
        network: to join; a new one by default.
    """
    network = network or MemoryNetwork()
    chosen = settings or ServerSettings(model=str(model), dtype="float32", threads=1)
    async with AsyncExitStack() as stack:
        servers = []
        for index, blocks in enumerate(splits):
            node = network.node(f"server-{index}")
            stack.push_async_callback(node.close)
            update = {"model": str(model), "blocks": blocks}
            server = await BlockServer.start(node, chosen.model_copy(update=update))
            stack.push_async_callback(server.close)
            servers.append(server)
        yield network, servers
