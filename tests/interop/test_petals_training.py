"""The unmodified Petals release runs forward and backward through our servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from swarm_protocol.hivemind import HivemindNode, NodeSettings
from swarm_protocol.identifiers import BlockRange
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.harness import petals
from tests.harness.local_layers import LocalLayers
from tests.harness.tiny_models import save_tiny_llama
from tests.interop.release_tasks import run_tasks

pytestmark = [
    pytest.mark.skipif(not petals.is_installed(), reason=petals.REASON_ABSENT),
    pytest.mark.timeout(120),
]

PREFIX = "tiny"
TOLERANCE = 3e-3
"""Of the mean value: two implementations of the same float32 layers, and the largest difference of
400,000 numbers. It depends on the processor; 1.1e-3 is the most that was seen."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = save_tiny_llama(tmp_path_factory.mktemp("training") / "tiny", hidden_size=256)
    petals.write_old_config(directory)
    return directory


@pytest.fixture
async def bootstrap(model: Path) -> AsyncIterator[HivemindNode]:
    """The first of two nodes, whose servers hold blocks 0:2 and 2:4."""
    async with AsyncExitStack() as cleanup:
        first = await HivemindNode.start(NodeSettings())
        cleanup.push_async_callback(first.close)
        second = await HivemindNode.start(NodeSettings(initial_peers=first.maddrs))
        cleanup.push_async_callback(second.close)
        for server in await asyncio.gather(
            start_server(first, model, "0:2"), start_server(second, model, "2:4")
        ):
            cleanup.push_async_callback(server.close)
        yield first


async def start_server(node: HivemindNode, model: Path, blocks: str) -> BlockServer:
    settings = ServerSettings(
        model=str(model), blocks=blocks, dht_prefix=PREFIX, dtype="float32", threads=1
    )
    return await BlockServer.start(node, settings)


async def run_blocks(model: Path, bootstrap: HivemindNode, *options: str) -> dict[str, Any]:
    """Let the release train through our servers, and compare with its own local blocks."""
    return await petals.run(
        *("blocks", str(model), "--prefix", PREFIX, "--check", *options),
        *("--initial_peers", *bootstrap.maddrs),
    )


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--batch", "2", "--seq", "16"), id="unary"),
        pytest.param(("--batch", "4", "--seq", "400"), id="streamed-in-sub-batches"),
        pytest.param(("--batch", "1", "--seq", "8", "--start", "1", "--end", "3"), id="slice"),
    ],
)
async def test_petals_client_trains_through_our_servers(
    model: Path, bootstrap: HivemindNode, options: tuple[str, ...]
) -> None:
    """Outputs and gradients of its RemoteSequential are those of its local blocks."""
    answer = await run_blocks(model, bootstrap, *options)

    assert answer["max_abs_out_diff"] < TOLERANCE * answer["out_abs"]
    assert answer["max_abs_grad_diff"] < TOLERANCE * answer["grad_abs"]


async def test_petals_client_trains_deep_prompts_through_our_servers(
    model: Path, bootstrap: HivemindNode
) -> None:
    """Its gradients are those of autograd through transformers' layers."""
    generator = torch.Generator().manual_seed(0)
    hidden, prompts, grad_outputs = (
        torch.randn(shape, generator=generator)
        for shape in ((2, 16, 256), (4, 2, 3, 256), (2, 16, 256))
    )
    inputs = {"hidden": hidden, "prompts": prompts, "grad_outputs": grad_outputs}

    (answers,) = await run_tasks(model, PREFIX, bootstrap.maddrs, ("train", inputs))

    outputs = LocalLayers(model, BlockRange(0, 4))(
        hidden.requires_grad_(), prompts.requires_grad_()
    )
    expected = [outputs, *torch.autograd.grad(outputs, [hidden, prompts], grad_outputs)]
    for actual, local in zip(answers, expected, strict=True):
        scale = local.abs().max().item()
        torch.testing.assert_close(actual / scale, local / scale, atol=1e-4, rtol=0)
