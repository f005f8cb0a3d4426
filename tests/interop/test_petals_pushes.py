"""A client of the Petals release on three of our servers, which push its steps on.

It names the servers that follow from the second step of a session on. Servers of the release look
for them in the first step only, so ours are the ones that push (PETALS_PROTOCOL §3.7).
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from swarm_protocol.errors import PeerError
from swarm_protocol.hivemind import NodeSettings
from swarm_protocol.identifiers import BlockRange
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.harness import petals
from tests.harness.local_layers import LocalLayers
from tests.harness.tiny_models import save_tiny_llama
from tests.interop.pushing_node import PushingNode
from tests.interop.release_tasks import run_tasks

pytestmark = [
    pytest.mark.skipif(not petals.is_installed(), reason=petals.REASON_ABSENT),
    pytest.mark.timeout(120),
]

PREFIX = "tiny"
PROMPT = torch.tensor([[1, 50, 60, 70, 80]])
NUM_BEAMS = 3
NUM_NEW = 12
CHUNKS = [4, 1, 1]
HIDDEN = torch.randn(2, sum(CHUNKS), 64, generator=torch.Generator().manual_seed(1))
DEEP_PROMPTS = torch.randn(4, 2, 3, 64, generator=torch.Generator().manual_seed(2))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the release's client got, and what our servers did for it."""

    model: Path
    beams: Tensor
    session: Tensor
    num_pushed: list[int]
    refusals: list[PeerError]


@pytest.fixture(scope="module")
async def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    model = save_tiny_llama(tmp_path_factory.mktemp("pushes") / "tiny")
    petals.write_old_config(model)
    beams = {"token_ids": PROMPT, "num_beams": NUM_BEAMS, "num_new": NUM_NEW}
    session = {"chunks": list(torch.split(HIDDEN, CHUNKS, 1)), "prompts": DEEP_PROMPTS}
    async with AsyncExitStack() as cleanup:
        nodes = [await start_server(cleanup, model, blocks="0:1")]
        for blocks in ("1:2", "2:4"):
            nodes.append(await start_server(cleanup, model, *nodes[0].maddrs, blocks=blocks))
        tokens, outputs = await run_tasks(
            *(model, PREFIX, nodes[0].maddrs), ("generate", beams), ("run_session", session)
        )
    return Outcome(
        model,
        beams=tokens,
        session=torch.cat(outputs, 1),
        num_pushed=[node.num_pushed for node in nodes],
        refusals=[refusal for node in nodes for refusal in node.refusals],
    )


async def start_server(
    cleanup: AsyncExitStack, model: Path, *initial_peers: str, blocks: str
) -> PushingNode:
    """Return the node of a new server of ours."""
    node = await PushingNode.start(NodeSettings(initial_peers=initial_peers))
    cleanup.push_async_callback(node.close)
    settings = ServerSettings(
        model=str(model), blocks=blocks, dht_prefix=PREFIX, dtype="float32", threads=1
    )
    server = await BlockServer.start(node, settings)
    cleanup.push_async_callback(server.close)
    return node


async def test_beams_of_petals_client_equal_transformers(outcome: Outcome) -> None:
    """Every server reorders its rows by the ids of the very step, pushed or not."""
    whole = LlamaForCausalLM.from_pretrained(outcome.model, dtype=torch.float32)

    expected = whole.generate(PROMPT, max_new_tokens=NUM_NEW, num_beams=NUM_BEAMS, do_sample=False)

    assert outcome.beams.equal(expected)


async def test_deep_prompts_of_petals_client_equal_local_addition(outcome: Outcome) -> None:
    """Before each block, to the tokens of the first step only."""
    with torch.inference_mode():
        expected = LocalLayers(outcome.model, BlockRange(0, 4))(HIDDEN, DEEP_PROMPTS)

    # Two implementations of the same float32 layers.
    torch.testing.assert_close(outcome.session, expected, atol=1e-3, rtol=0)


async def test_each_later_step_of_petals_client_is_pushed_along_the_chain(
    outcome: Outcome,
) -> None:
    """Once from each server that has one behind it, and nobody objects."""
    num_later_steps = (NUM_NEW - 1) + (len(CHUNKS) - 1)

    assert outcome.num_pushed == [num_later_steps, num_later_steps, 0]
    assert outcome.refusals == []
