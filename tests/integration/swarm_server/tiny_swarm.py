"""The swarm that these tests call, and the numbers they compare it with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any  # of hooks, whose types torch leaves open

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from swarm_protocol.memory_node import MemoryNode
from swarm_server.server import BlockServer


@dataclass
class Swarm:
    """Servers of the tiny Llama, and somebody who calls them."""

    caller: MemoryNode
    servers: list[BlockServer]

    def assert_memory_is_back(self) -> None:
        """No session is left, and all KV memory is free."""
        assert [server.num_sessions for server in self.servers] == [0] * len(self.servers)
        assert {server.kv_tokens_left for server in self.servers} == {16384}


@dataclass
class Reference:
    """transformers' layers of the tiny Llama, without embeddings and final norm."""

    model: LlamaForCausalLM

    @torch.inference_mode()
    def run(self, hidden: Tensor) -> Tensor:
        """Return the hidden states after all blocks, in one piece."""
        output: Tensor = self.model.model(inputs_embeds=hidden, use_cache=False).last_hidden_state
        return output

    def train(self, hidden: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Return the same for autograd; `prompts` are added before each block, as servers do."""
        added: list[Tensor] = [] if prompts is None else list(prompts)
        hooks = [
            layer.register_forward_pre_hook(_adding(prompt), with_kwargs=True)
            for layer, prompt in zip(self.model.model.layers, added, strict=False)
        ]
        output: Tensor = self.model.model(inputs_embeds=hidden, use_cache=False).last_hidden_state
        for hook in hooks:
            hook.remove()
        return output


def _adding(prompt: Tensor) -> Callable[..., Any]:
    def add(_layer: object, arguments: tuple[Tensor], keywords: object) -> Any:
        (hidden,) = arguments
        num_rest = hidden.shape[1] - prompt.shape[1]
        return (hidden + torch.nn.functional.pad(prompt, (0, 0, 0, num_rest)),), keywords

    return add
