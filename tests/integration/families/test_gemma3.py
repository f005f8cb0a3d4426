"""A Gemma 3 that also sees is served as the language model in it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from swarm_client import AutoDistributedModelForCausalLM
from tests.harness.tiny_families import save_tiny_family
from tests.integration.swarm_client.local_model import node_with_servers

PROMPT = torch.tensor([[1, 50, 60, 70, 80, 90, 100]])
IMPLIED = ("num_attention_heads", "num_key_value_heads", "max_position_embeddings")


def nest(flat: Path, directory: Path, prefix: str) -> Path:
    """Save a flat model as transformers saves it inside one that also sees."""
    config = json.loads((flat / "config.json").read_text())
    text_config = {name: value for name, value in config.items() if name not in IMPLIED}
    nested = {"model_type": "gemma3", "text_config": text_config, "vision_config": {}}
    tensors = load_file(flat / "model.safetensors")
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(nested))
    save_file(
        {f"{prefix}{name}": tensor for name, tensor in tensors.items()},
        directory / "model.safetensors",
    )
    return directory


@pytest.mark.parametrize("prefix", ["language_model.", "model.language_"])
def test_a_nested_language_model_writes_what_it_writes_alone(tmp_path: Path, prefix: str) -> None:
    """In both layouts that transformers has written; its config leaves out default sizes."""
    flat = save_tiny_family(
        "gemma3", tmp_path / "flat", num_attention_heads=8, num_key_value_heads=4
    )
    nested = nest(flat, tmp_path / "nested", prefix)
    model = AutoDistributedModelForCausalLM.from_pretrained(
        str(nested), torch_dtype="float32", node_factory=node_with_servers(nested, ["0:2", "2:4"])
    )

    tokens = model.generate(PROMPT, max_new_tokens=12, do_sample=False)
    model.close()

    whole = AutoModelForCausalLM.from_pretrained(flat, dtype=torch.float32)
    mask = torch.ones_like(PROMPT)
    expected = whole.generate(PROMPT, attention_mask=mask, max_new_tokens=12, do_sample=False)
    assert tokens.equal(expected)
    assert tokens.shape[1] > PROMPT.shape[1] + 4
