"""The synchronous model with an adapter, from `from_pretrained` to tokens."""

from contextlib import AsyncExitStack
from pathlib import Path

import torch

from swarm_client import DistributedLlamaForCausalLM
from swarm_protocol.node import Node
from swarm_server.settings import ServerSettings
from tests.harness.lora_adapters import merged_model
from tests.harness.server_swarm import server_swarm
from tests.integration.adapters.adapted_swarm import PROMPTS, save_two_adapters
from tests.integration.swarm_client.local_model import NodeWithServers


def load(model: Path, adapters: tuple[Path, ...], name: str) -> DistributedLlamaForCausalLM:
    """Return the model over two servers of its own that hold all adapters."""
    settings = ServerSettings(
        model=str(model), dtype="float32", threads=1, adapters=tuple(map(str, adapters))
    )

    async def start() -> Node:
        servers = AsyncExitStack()
        swarm = server_swarm(model, ["0:2", "2:4"], settings)
        network, _ = await servers.enter_async_context(swarm)
        return NodeWithServers(network, servers)

    return DistributedLlamaForCausalLM.from_pretrained(
        str(model), torch_dtype="float32", active_adapter=name, node_factory=start
    )


def test_tokens_and_logits_are_those_of_merged_weights(tiny_llama: Path, tmp_path: Path) -> None:
    """`active_adapter` holds for `generate` and for passes outside sessions alike."""
    adapters = save_two_adapters(tmp_path, tiny_llama)
    merged = merged_model(tiny_llama, tmp_path / "all")
    model = load(tiny_llama, adapters, "all")

    tokens = model.generate(PROMPTS, max_new_tokens=12, do_sample=False)
    logits = model(PROMPTS).logits
    model.close()

    mask = torch.ones_like(PROMPTS)
    expected = merged.generate(PROMPTS, attention_mask=mask, max_new_tokens=12, do_sample=False)
    assert tokens.equal(expected)
    torch.testing.assert_close(logits, merged(PROMPTS).logits, atol=1e-4, rtol=0)
