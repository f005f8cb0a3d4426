"""Random LoRA adapters of tiny models, saved as PEFT saves them, and what they should compute."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def save_lora(
    directory: Path,
    model: Path,
    targets: Collection[str],
    *,
    seed: int = 0,
    rank: int = 3,
    alpha: float = 6,
    **config: Any,  # further fields of adapter_config.json
) -> Path:
    """Save an adapter of the modules whose names end so; return `directory`."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for path, module in AutoModelForCausalLM.from_pretrained(model).named_modules():
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] in targets:
            num_outputs, num_inputs = module.weight.shape
            matrices = {"lora_A": (rank, num_inputs), "lora_B": (num_outputs, rank)}
            for name, shape in matrices.items():
                tensor = 0.2 * torch.randn(shape, generator=generator)
                tensors[f"base_model.model.{path}.{name}.weight"] = tensor
    fields = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(targets),
        "bias": "none",
    }
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / WEIGHTS_FILE)
    (directory / CONFIG_FILE).write_text(json.dumps(fields | config), encoding="utf-8")
    return directory


def merged_model(model: Path, adapter: Path) -> PreTrainedModel:
    """Return transformers' model in float32 with `scale * B @ A` added to the weights."""
    merged = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    config = json.loads((adapter / CONFIG_FILE).read_text(encoding="utf-8"))
    root = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
    tensors = load_file(adapter / WEIGHTS_FILE)
    for name, down in tensors.items():
        if ".lora_A." in name:
            path = name.removeprefix("base_model.model.").partition(".lora_A.")[0]
            up = tensors[name.replace(".lora_A.", ".lora_B.")]
            module = merged.get_submodule(path)
            module.weight.data += config["lora_alpha"] / root * (up @ down)
    return merged
