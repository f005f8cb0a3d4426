"""A swarm of two servers for each test, and the reference they are compared with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from swarm_server.settings import ServerSettings
from tests.harness.server_swarm import server_swarm
from tests.integration.swarm_server.tiny_swarm import Reference, Swarm


@pytest.fixture
async def swarm(tiny_llama: Path) -> AsyncIterator[Swarm]:
    """Blocks 0:2 and 2:4 on two servers, which promise no more KV memory than they have."""
    settings = ServerSettings(model="-", dtype="float32", threads=1, kv_overcommit=1.0)
    async with server_swarm(tiny_llama, ["0:2", "2:4"], settings) as (network, servers):
        yield Swarm(network.node("caller"), servers)


@pytest.fixture(scope="session")
def reference(tiny_llama: Path) -> Reference:
    """The same weights as the servers'."""
    model = LlamaForCausalLM.from_pretrained(tiny_llama).eval()
    model.model.norm = torch.nn.Identity()
    return Reference(model)
