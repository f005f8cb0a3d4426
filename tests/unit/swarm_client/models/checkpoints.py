"""Checkpoints written by hand: a config, and tensors of the wanted names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from swarm_protocol.checkpoint import Checkpoint

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 3,
    "hidden_size": 8,
    "vocab_size": 11,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def local_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "model.embed_tokens.weight": torch.randn(11, 8, generator=generator),
        "model.norm.weight": torch.randn(8, generator=generator),
        "lm_head.weight": torch.randn(11, 8, generator=generator),
    }


def write_checkpoint(
    directory: Path,
    changes: Mapping[str, Any] | None = None,
    tensors: dict[str, Tensor] | None = None,
    generation: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Write `CONFIG` with changes (None takes a field away) and open the checkpoint."""
    config = {**CONFIG, **(changes or {})}
    config = {name: value for name, value in config.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation))
    save_file(local_tensors() if tensors is None else tensors, directory / "model.safetensors")
    return Checkpoint.open(str(directory))
