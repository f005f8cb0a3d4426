"""A server lost in the middle of a generation: the tokens are those of an undisturbed one."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, LogitsProcessor

from swarm_client import DistributedLlamaForCausalLM
from swarm_protocol.node import Node
from swarm_server.server import BlockServer
from tests.harness.server_swarm import server_swarm
from tests.integration.swarm_client.local_model import NodeWithServers
from tests.integration.swarm_client.tuning.local_twin import LocalTwin, enlarge

PROMPTS = torch.tensor([[0, 0, 1, 50, 60], [1, 9, 8, 7, 6]])


class Swarm:
    """Two servers of every half, and a client whose node brings them along."""

    def __init__(self, model: Path) -> None:
        self._directory = str(model)
        self._servers: list[BlockServer] = []
        torch.manual_seed(0)
        self.model = DistributedLlamaForCausalLM.from_pretrained(
            self._directory,
            torch_dtype="float32",
            node_factory=self._start,
            tuning_mode="deep_ptune",
            pre_seq_len=3,
        )

    async def _start(self) -> Node:
        stack = AsyncExitStack()
        splits = ["0:2", "2:4", "0:2", "2:4"]
        self._network, self._servers = await stack.enter_async_context(
            server_swarm(Path(self._directory), splits)
        )
        self._loop = asyncio.get_running_loop()
        return NodeWithServers(self._network, stack)

    def cut_one_in_use(self) -> None:
        """Cut a server of the second half off, from whatever thread."""

        async def cut() -> None:
            used = [s for s in self._servers if s.num_sessions and s.blocks.start == 2]
            self._network.cut(used[0].peer_id)

        asyncio.run_coroutine_threadsafe(cut(), self._loop).result()


class CutAfter(LogitsProcessor):  # type: ignore[misc]  # mypy does not follow transformers
    """Cuts a server off when so many tokens were made."""

    def __init__(self, swarm: Swarm, num_tokens: int) -> None:
        self._swarm = swarm
        self._tokens_left = num_tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._tokens_left == 0:
            self._swarm.cut_one_in_use()
        self._tokens_left -= 1
        return scores


@pytest.fixture
def swarm(tiny_llama: Path) -> Iterator[Swarm]:
    """A new one for each test: servers do not come back."""
    swarm = Swarm(tiny_llama)
    yield swarm
    swarm.model.close()


@pytest.mark.parametrize("num_tokens", [0, 1, 9])
@pytest.mark.parametrize(
    "options", [{"do_sample": False}, {"num_beams": 3, "do_sample": True}], ids=["greedy", "beams"]
)
def test_no_token_is_lost_repeated_or_changed(
    swarm: Swarm, tiny_llama: Path, options: dict[str, Any], num_tokens: int
) -> None:
    """Rows of unequal length, in a session each, and the order of beams included."""
    swarm.model.prompt_tuning = None
    torch.manual_seed(1)
    tokens = swarm.model.generate(
        PROMPTS, max_new_tokens=12, logits_processor=[CutAfter(swarm, num_tokens)], **options
    )

    whole = LlamaForCausalLM.from_pretrained(tiny_llama)
    torch.manual_seed(1)
    assert tokens.equal(whole.generate(PROMPTS, max_new_tokens=12, **options))


@pytest.mark.parametrize("num_tokens", [0, 1, 9])
def test_deep_prompts_are_not_lost_either(swarm: Swarm, tiny_llama: Path, num_tokens: int) -> None:
    """The server that takes over gets those of its blocks."""
    prompts = swarm.model.prompt_tuning
    assert prompts is not None
    enlarge(prompts)

    tokens = swarm.model.generate(
        PROMPTS[1:], max_new_tokens=12, logits_processor=[CutAfter(swarm, num_tokens)]
    )

    twin = LocalTwin(LlamaForCausalLM.from_pretrained(tiny_llama), prompts)
    assert tokens.equal(twin.greedy(PROMPTS[1:], 12))
