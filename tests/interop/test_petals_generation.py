"""`generate` and its sessions over servers of the unmodified Petals release."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from swarm_client import DistributedLlamaForCausalLM
from swarm_protocol.hivemind import HivemindNode, NodeSettings
from tests.harness import petals
from tests.harness.tiny_models import save_tiny_llama

pytestmark = [
    pytest.mark.skipif(not petals.is_installed(), reason=petals.REASON_ABSENT),
    pytest.mark.timeout(120),
]

PREFIX = "tiny"
PROMPT = torch.tensor([[1, 50, 60, 70, 80]])
MORE = torch.tensor([[9, 10, 11]])
UNEQUAL = torch.tensor([[0, 0, 1, 50, 60], [1, 9, 8, 7, 6], [0, 1, 33, 90, 44]])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = save_tiny_llama(tmp_path_factory.mktemp("generation") / "tiny")
    petals.write_old_config(directory)
    return directory


@pytest.fixture(scope="module")
def whole(directory: Path) -> LlamaForCausalLM:
    """The same model in one process, as transformers runs it."""
    return LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)


@pytest.fixture(scope="module")
async def model(directory: Path) -> AsyncIterator[DistributedLlamaForCausalLM]:
    """The model over two servers of the release."""
    async with AsyncExitStack() as cleanup:
        bootstrap = await HivemindNode.start(NodeSettings())
        cleanup.push_async_callback(bootstrap.close)
        servers = [
            petals.running(
                *("server", str(directory), blocks, "--prefix", PREFIX, "--handlers", "1"),
                *("--initial_peers", *bootstrap.maddrs),
            )
            for blocks in ("0:2", "2:4")
        ]
        await asyncio.gather(*(cleanup.enter_async_context(server) for server in servers))
        distributed = await asyncio.to_thread(
            DistributedLlamaForCausalLM.from_pretrained,
            str(directory),
            initial_peers=bootstrap.maddrs,
            dht_prefix=PREFIX,
            torch_dtype="float32",
        )
        yield distributed
        await asyncio.to_thread(distributed.close)


def greedy(model: LlamaForCausalLM, inputs: Tensor | None, num_new: int, **options: Any) -> Tensor:
    tokens: Tensor = model.generate(inputs, max_new_tokens=num_new, do_sample=False, **options)
    return tokens


async def test_beams_over_unequal_prompts_equal_transformers(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """The release reorders its caches by hypo_ids, and is shown no padding."""
    tokens = await asyncio.to_thread(greedy, model, UNEQUAL, 12, num_beams=3)

    assert tokens.equal(greedy(whole, UNEQUAL, 12, num_beams=3))


async def test_a_position_is_set_back_without_rollback_on_servers(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """The release would ignore the key and append: it gets what is left in a fresh session."""

    def go_back() -> tuple[Tensor, Tensor]:
        with model.inference_session(max_length=40) as session:
            first = greedy(model, PROMPT, 6, num_beams=2)
            session.position = 7
            return first, greedy(model, MORE, 6)

    first, second = await asyncio.to_thread(go_back)

    assert first.equal(greedy(whole, PROMPT, 6, num_beams=2))
    text = torch.cat([first[:, :7], MORE], dim=1)
    assert second.equal(greedy(whole, text, 6)[:, 7:])
