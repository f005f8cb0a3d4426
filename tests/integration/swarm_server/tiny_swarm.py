"""The swarm that these tests call, and the numbers they compare it with."""

from dataclasses import dataclass

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
