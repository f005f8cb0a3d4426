"""Our client runs forward and backward through servers of the unmodified Petals release."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.models import read_facts
from swarm_client.settings import RoutingSettings
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.hivemind import HivemindNode, NodeSettings
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.harness import petals
from tests.harness.local_layers import LocalLayers
from tests.harness.tiny_models import save_tiny_llama

pytestmark = [
    pytest.mark.skipif(not petals.is_installed(), reason=petals.REASON_ABSENT),
    pytest.mark.timeout(120),
]

PREFIX = "tiny"
HIDDEN_SIZE = 256
HALVES = ("0:2", "2:4")
ALL = BlockRange(0, 4)


@dataclass(frozen=True, slots=True)
class MixedSwarm:
    """Both halves of the model, served by the release and by us."""

    model: Path
    node: HivemindNode
    peers: dict[str, PeerId]

    @asynccontextmanager
    async def client(self, *route: str) -> AsyncIterator[RemoteModel]:
        """Yield a client that may use only these servers, e.g. `petals 0:2`."""
        settings = RoutingSettings(
            allowed_servers=tuple(self.peers[name] for name in route), max_retries=0
        )
        connection = SwarmConnection(self.node, settings)
        facts = read_facts(Checkpoint.open(str(self.model)), dht_prefix=PREFIX)
        yield await connection.watch(facts)
        await connection.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("autograd") / "tiny"
    save_tiny_llama(directory, hidden_size=HIDDEN_SIZE)
    petals.write_old_config(directory)
    return directory


@pytest.fixture(scope="module")
async def swarm(model: Path) -> AsyncIterator[MixedSwarm]:
    async with AsyncExitStack() as cleanup:
        bootstrap = await start_node(cleanup)
        petals_peers = [
            cleanup.enter_async_context(
                petals.running(
                    *("server", str(model), blocks, "--prefix", PREFIX, "--handlers", "1"),
                    *("--initial_peers", *bootstrap.maddrs),
                )
            )
            for blocks in HALVES
        ]
        theirs = await asyncio.gather(*petals_peers)
        peers = {
            f"petals {blocks}": PeerId(peer.peer_id)
            for blocks, peer in zip(HALVES, theirs, strict=True)
        }
        for blocks in HALVES:
            node = await start_node(cleanup, *bootstrap.maddrs)
            settings = ServerSettings(
                model=str(model), blocks=blocks, dht_prefix=PREFIX, dtype="float32", threads=1
            )
            server = await BlockServer.start(node, settings)
            cleanup.push_async_callback(server.close)
            peers[f"ours {blocks}"] = server.peer_id
        yield MixedSwarm(model, await start_node(cleanup, *bootstrap.maddrs), peers)


async def start_node(cleanup: AsyncExitStack, *initial_peers: str) -> HivemindNode:
    node = await HivemindNode.start(NodeSettings(initial_peers=initial_peers))
    cleanup.push_async_callback(node.close)
    return node


def tensors(batch_size: int, num_tokens: int, num_prompts: int = 2) -> list[Tensor]:
    """Return hidden states, deep prompts of all blocks, and a gradient of the outputs."""
    generator = torch.Generator().manual_seed(num_tokens)
    hidden = (batch_size, num_tokens, HIDDEN_SIZE)
    shapes = (hidden, (len(ALL), batch_size, num_prompts, HIDDEN_SIZE), hidden)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def assert_close(actual: Sequence[Tensor | None], expected: Sequence[Tensor]) -> None:
    """Two implementations of the same float32 layers, relative to the largest value."""
    for theirs, local in zip(actual, expected, strict=True):
        assert theirs is not None
        scale = max(1.0, local.abs().max().item())
        torch.testing.assert_close(theirs / scale, local / scale, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "route",
    [
        ("petals 0:2", "petals 2:4"),
        ("petals 0:2", "ours 2:4"),
        ("ours 0:2", "petals 2:4"),
    ],
)
@pytest.mark.parametrize("sizes", [(2, 16, 2), (1, 512, 400)], ids=["unary", "streamed"])
async def test_gradients_through_petals_servers_equal_local_ones(
    swarm: MixedSwarm, route: tuple[str, ...], sizes: tuple[int, int, int]
) -> None:
    """On chains of the release and mixed ones; many deep prompts make a request a stream."""
    hidden, prompts, grad = tensors(*sizes)
    async with swarm.client(*route) as client:
        result = await client.run_forward(hidden, prompts)
        grads = await client.run_backward(result.tape, grad)

    output = LocalLayers(swarm.model, ALL)(hidden.requires_grad_(), prompts.requires_grad_())
    expected = torch.autograd.grad(output, [hidden, prompts], grad)
    assert_close([result.output, grads.hidden, grads.prompts], [output, *expected])


async def test_a_slice_enters_petals_servers_in_mid_span(swarm: MixedSwarm) -> None:
    """Without prompts: the second argument is the dummy of the release."""
    hidden, _, grad = tensors(1, 8)
    part = BlockRange(1, 3)
    async with swarm.client("petals 0:2", "petals 2:4") as client:
        result = await client.run_forward(hidden, blocks=part)
        grads = await client.run_backward(result.tape, grad)

    output = LocalLayers(swarm.model, part)(hidden.requires_grad_())
    assert_close(
        [result.output, grads.hidden], [output, *torch.autograd.grad(output, hidden, grad)]
    )
