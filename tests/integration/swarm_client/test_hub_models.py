"""Distributed models whose local parts come from a hub."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from swarm_client import AutoDistributedModelForCausalLM
from swarm_protocol.checkpoint import HubSettings
from swarm_protocol.errors import DiskFullError
from tests.harness.hub_server import HubServer
from tests.integration.swarm_client.local_model import node_with_servers

NAME = "organization/model"
PROMPT = torch.tensor([[1, 50, 60, 70, 80]])


def test_a_model_of_a_hub_writes_what_transformers_writes(tiny_llama: Path, tmp_path: Path) -> None:
    """Its files go where the settings say."""
    with HubServer() as hub:
        hub.publish(NAME, tiny_llama)
        model = AutoDistributedModelForCausalLM.from_pretrained(
            NAME,
            hub=HubSettings(endpoint=hub.url, directory=tmp_path),
            dht_prefix=tiny_llama.name,
            torch_dtype="float32",
            node_factory=node_with_servers(tiny_llama, ["0:2", "2:4"]),
        )
    tokens = model.generate(PROMPT, max_new_tokens=8, do_sample=False)
    model.close()

    whole = LlamaForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    assert tokens.equal(whole.generate(PROMPT, max_new_tokens=8, do_sample=False))
    assert list(tmp_path.glob("models--organization--model/snapshots/*/model.safetensors"))


def test_a_model_over_the_disk_limit_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    """Before the swarm is joined."""
    with HubServer() as hub:
        hub.publish(NAME, tiny_llama)
        settings = HubSettings(endpoint=hub.url, directory=tmp_path, max_disk_bytes=10_000)

        with pytest.raises(DiskFullError):
            AutoDistributedModelForCausalLM.from_pretrained(
                NAME, hub=settings, initial_peers=["/ip4/127.0.0.1/tcp/1/p2p/x"]
            )
