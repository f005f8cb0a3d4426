"""The unmodified Petals release and we, in one swarm."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from swarm_client.connection import SwarmConnection
from swarm_client.models import load_local_parts, read_facts
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.hivemind import HivemindNode, NodeSettings
from swarm_protocol.node import Node
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.harness import petals
from tests.harness.tiny_models import save_tiny_llama
from tests.interop.release_tasks import run_tasks

pytestmark = [
    pytest.mark.skipif(not petals.is_installed(), reason=petals.REASON_ABSENT),
    pytest.mark.timeout(120),
]

PREFIX = "tiny"
PROMPT = [5, 6, 7]
NUM_NEW = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = save_tiny_llama(tmp_path_factory.mktemp("interop") / "tiny")
    petals.write_old_config(directory)
    return directory


@pytest.fixture(scope="module")
def whole(model: Path) -> LlamaForCausalLM:
    """The model in one piece."""
    return LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)


@pytest.fixture(scope="module")
def expected_ids(whole: LlamaForCausalLM) -> list[int]:
    """What it says."""
    return generate_with(whole, num_beams=1)


@pytest.fixture
async def cleanup() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def generate_with(whole: LlamaForCausalLM, num_beams: int) -> list[int]:
    """Return the new ids that transformers generates."""
    prompt = torch.tensor([PROMPT])
    output = whole.generate(prompt, max_new_tokens=NUM_NEW, num_beams=num_beams, do_sample=False)
    new_ids: list[int] = output[0, len(PROMPT) :].tolist()
    return new_ids


async def start_node(cleanup: AsyncExitStack, *initial_peers: str) -> HivemindNode:
    node = await HivemindNode.start(NodeSettings(initial_peers=initial_peers))
    cleanup.push_async_callback(node.close)
    return node


async def start_server(cleanup: AsyncExitStack, node: Node, model: Path, blocks: str) -> None:
    settings = ServerSettings(
        model=str(model), blocks=blocks, dht_prefix=PREFIX, dtype="float32", threads=1
    )
    server = await BlockServer.start(node, settings)
    cleanup.push_async_callback(server.close)


async def start_petals_server(
    cleanup: AsyncExitStack, bootstrap: Node, model: Path, blocks: str
) -> None:
    await cleanup.enter_async_context(
        petals.running(
            *("server", str(model), blocks, "--prefix", PREFIX, "--handlers", "1"),
            *("--initial_peers", *bootstrap.maddrs),
        )
    )


async def generate_with_petals(
    model: Path, maddrs: tuple[str, ...], *num_beams: int
) -> list[list[int]]:
    """Return the new ids that the release's client generates with so many beams."""
    prompt = {"token_ids": torch.tensor([PROMPT]), "num_new": NUM_NEW}
    tasks = [("generate", {**prompt, "num_beams": number}) for number in num_beams]
    outputs = await run_tasks(model, PREFIX, maddrs, *tasks)
    return [output[0, len(PROMPT) :].tolist() for output in outputs]


async def generate_with_ours(model: Path, node: Node) -> list[int]:
    """Return the new ids of a greedy loop over our inference session."""
    checkpoint = Checkpoint.open(str(model))
    local = load_local_parts(checkpoint, dtype=torch.float32)
    connection = SwarmConnection(node)
    remote = await connection.watch(read_facts(checkpoint, dht_prefix=PREFIX))
    new_ids: list[int] = []
    async with await remote.open_session(max_length=64) as session:
        while len(new_ids) < NUM_NEW:
            token_ids = torch.tensor([new_ids[-1:] or PROMPT])
            hidden = await session.step(local.embed(token_ids))
            new_ids.append(int(local.logits(hidden[:, -1]).argmax()))
    await connection.close()
    return new_ids


async def test_petals_client_generates_on_our_servers(
    model: Path, expected_ids: list[int], cleanup: AsyncExitStack
) -> None:
    """Our bootstrap, two servers of ours, the release's client."""
    first = await start_node(cleanup)
    second = await start_node(cleanup, *first.maddrs)
    await asyncio.gather(
        start_server(cleanup, first, model, "0:2"), start_server(cleanup, second, model, "2:4")
    )

    assert await generate_with_petals(model, first.maddrs, 1) == [expected_ids]


async def test_our_client_generates_on_petals_servers(
    model: Path, expected_ids: list[int], cleanup: AsyncExitStack
) -> None:
    """The release's bootstrap and two servers of the release, our client."""
    bootstrap = await cleanup.enter_async_context(petals.running("dht"))
    node = await start_node(cleanup, *bootstrap.maddrs)
    await asyncio.gather(
        start_petals_server(cleanup, node, model, "0:2"),
        start_petals_server(cleanup, node, model, "2:4"),
    )

    assert await generate_with_ours(model, node) == expected_ids


@pytest.mark.parametrize(("ours", "theirs"), [("0:2", "2:4"), ("2:4", "0:2")])
async def test_both_clients_generate_on_a_mixed_chain(
    model: Path, whole: LlamaForCausalLM, cleanup: AsyncExitStack, ours: str, theirs: str
) -> None:
    """A server of ours and one of the release, in both orders; beams with the release's client.

    Where ours is the first, it pushes the steps of that client to the server of the release.
    """
    node = await start_node(cleanup)
    await start_server(cleanup, node, model, ours)
    await start_petals_server(cleanup, node, model, theirs)
    client = await start_node(cleanup, *node.maddrs)
    greedy, beams = generate_with(whole, num_beams=1), generate_with(whole, num_beams=3)

    assert await generate_with_ours(model, client) == greedy
    assert await generate_with_petals(model, node.maddrs, 1, 3) == [greedy, beams]
