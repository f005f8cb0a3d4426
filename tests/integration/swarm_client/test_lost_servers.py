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
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.node import Node
from swarm_server.server import BlockServer
from tests.harness.server_swarm import server_swarm
from tests.integration.swarm_client.local_model import NodeWithServers
from tests.integration.swarm_client.tuning.local_twin import LocalTwin, enlarge

PROMPT = torch.tensor([[1]])
UNEQUAL_PROMPTS = torch.tensor([[0, 0, 1, 50, 60], [1, 9, 8, 7, 6]])
NUM_NEW = 53
LOST = BlockRange(1, 3)
THREE = ["0:1", "1:3", "3:4"]


class Swarm:
    """Three servers and some on standby, and a client whose node brings them along."""

    def __init__(self, model: Path, standby: list[str]) -> None:
        self._directory = str(model)
        self._splits = THREE + standby
        self._servers: list[BlockServer] = []
        self.was_cut = False
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
        self._network, self._servers = await stack.enter_async_context(
            server_swarm(Path(self._directory), self._splits)
        )
        self._loop = asyncio.get_running_loop()
        return NodeWithServers(self._network, stack)

    def cut_the_one_in_use(self) -> None:
        """Cut the server of the blocks in the middle off, from whatever thread."""

        async def cut() -> None:
            used = next(
                server.peer_id
                for server in self._servers
                if server.blocks == LOST and self._network.nodes[server.peer_id].pipes
            )
            self._network.cut(used)

        asyncio.run_coroutine_threadsafe(cut(), self._loop).result()
        self.was_cut = True

    def generate(self, position: int, prompts: Tensor = PROMPT, **options: Any) -> Tensor:
        """Generate, and lose a server when so many tokens have run."""
        processors = [CutAfter(self, position - prompts.shape[1])]
        with self.model.inference_session(max_length=80):
            if position == 0:
                self.cut_the_one_in_use()
            tokens: Tensor = self.model.generate(
                prompts, max_new_tokens=NUM_NEW, logits_processor=processors, **options
            )
        return tokens


class CutAfter(LogitsProcessor):  # type: ignore[misc]  # mypy does not follow transformers
    """Cuts a server off when so many tokens were made."""

    def __init__(self, swarm: Swarm, num_tokens: int) -> None:
        self._swarm = swarm
        self._tokens_left = num_tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._tokens_left == 0:
            self._swarm.cut_the_one_in_use()
        self._tokens_left -= 1
        return scores


@pytest.fixture(params=[["1:3"], ["1:2", "2:3"]], ids=["one takes over", "two take over"])
def swarm(tiny_llama: Path, request: pytest.FixtureRequest) -> Iterator[Swarm]:
    """A new one for each test: servers do not come back."""
    swarm = Swarm(tiny_llama, request.param)
    yield swarm
    assert swarm.was_cut
    swarm.model.close()


@pytest.fixture(scope="module")
def whole(tiny_llama: Path) -> LlamaForCausalLM:
    """The same model in one process, as transformers runs it."""
    return LlamaForCausalLM.from_pretrained(tiny_llama).requires_grad_(False)


@pytest.mark.parametrize("position", [0, 1, 50])
def test_check_26_greedy_output_is_that_of_an_undisturbed_run(
    swarm: Swarm, whole: LlamaForCausalLM, position: int
) -> None:
    """No token is lost, repeated or changed."""
    swarm.model.prompt_tuning = None

    tokens = swarm.generate(position, do_sample=False)

    assert tokens.equal(whole.generate(PROMPT, max_new_tokens=NUM_NEW, do_sample=False))


@pytest.mark.parametrize("position", [0, 1, 50])
def test_check_27_beams_are_those_of_an_undisturbed_run(
    swarm: Swarm, whole: LlamaForCausalLM, position: int
) -> None:
    """Sampled ones under the same seed: the server that takes over gets rows as they are now."""
    swarm.model.prompt_tuning = None
    options: dict[str, Any] = {"num_beams": 3, "do_sample": True}

    torch.manual_seed(1)
    tokens = swarm.generate(position, **options)

    torch.manual_seed(1)
    assert tokens.equal(whole.generate(PROMPT, max_new_tokens=NUM_NEW, **options))


@pytest.mark.parametrize("position", [0, 1, 50])
def test_check_27_deep_prompts_are_not_lost_either(
    swarm: Swarm, whole: LlamaForCausalLM, position: int
) -> None:
    """The server that takes over gets those of its blocks."""
    prompts = swarm.model.prompt_tuning
    assert prompts is not None
    enlarge(prompts)

    tokens = swarm.generate(position)

    assert tokens.equal(LocalTwin(whole, prompts).greedy(PROMPT, NUM_NEW))


def test_rows_of_unequal_length_all_go_on(swarm: Swarm, whole: LlamaForCausalLM) -> None:
    """They have a session each, and each of them loses a server."""
    swarm.model.prompt_tuning = None
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}

    tokens = swarm.model.generate(UNEQUAL_PROMPTS, logits_processor=[CutAfter(swarm, 5)], **options)

    assert tokens.equal(whole.generate(UNEQUAL_PROMPTS, **options))
