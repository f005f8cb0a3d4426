"""The synchronous client over real block servers, all in one process."""

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from swarm_client import DistributedLlamaForCausalLM
from swarm_client.blocking_model import NodeFactory
from swarm_client.models.distributed_model import DistributedModel
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.node import Node
from tests.harness.server_swarm import server_swarm

Model = TypeVar("Model", bound=DistributedModel)


class NodeWithServers(MemoryNode):
    """A client's node that ends the servers of its swarm when it is closed."""

    def __init__(self, network: MemoryNetwork, servers: AsyncExitStack) -> None:
        joined = network.node("client")
        super().__init__(network, joined.peer_id)
        network.nodes[joined.peer_id] = self
        self._servers = servers

    async def close(self) -> None:
        await super().close()
        await self._servers.aclose()


@contextmanager
def local_model(model: Path, splits: Sequence[str]) -> Iterator[DistributedLlamaForCausalLM]:
    """Yield a distributed Llama over one server per split; they run in its loop thread."""
    with distributed(DistributedLlamaForCausalLM, model, splits) as llama:
        yield llama


@contextmanager
def distributed(
    model_class: type[Model],
    model: Path,
    splits: Sequence[str],
    **options: Any,  # of its from_pretrained
) -> Iterator[Model]:
    """Yield a distributed model of any class over one server per split."""
    made = model_class.from_pretrained(
        str(model), torch_dtype="float32", node_factory=node_with_servers(model, splits), **options
    )
    try:
        yield made
    finally:
        made.close()


def node_with_servers(model: Path, splits: Sequence[str]) -> NodeFactory:
    """Return a factory of nodes that bring one server per split with them."""

    async def start() -> Node:
        servers = AsyncExitStack()
        network, _ = await servers.enter_async_context(server_swarm(model, splits))
        return NodeWithServers(network, servers)

    return start
