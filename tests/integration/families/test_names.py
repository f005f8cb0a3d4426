"""Checkpoints of models saved without their head have no prefix before their tensors' names."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from swarm_client import AutoDistributedModelForCausalLM
from tests.harness.tiny_families import FAMILIES
from tests.integration.swarm_client.local_model import node_with_servers

PROMPT = torch.tensor([[1, 50, 60, 70, 80, 90, 100]])


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("bloom", "transformer."), ("falcon-40b", "transformer."), ("llama3", "model.")],
)
def test_bare_names_are_found_by_client_and_servers(tmp_path: Path, name: str, prefix: str) -> None:
    """These models' heads are tied, so such a checkpoint lacks nothing."""
    usual = FAMILIES[name](tmp_path / "usual")
    bare = shutil.copytree(usual, tmp_path / "bare")
    tensors = load_file(usual / "model.safetensors")
    save_file(
        {key.removeprefix(prefix): tensor for key, tensor in tensors.items()},
        bare / "model.safetensors",
    )
    model = AutoDistributedModelForCausalLM.from_pretrained(
        str(bare), torch_dtype="float32", node_factory=node_with_servers(bare, ["0:2", "2:4"])
    )

    logits = model(PROMPT).logits
    model.close()

    whole = AutoModelForCausalLM.from_pretrained(usual, dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(logits, whole(PROMPT).logits, atol=1e-4, rtol=0)
