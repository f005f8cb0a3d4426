"""Random Llamas of any shape, on disk for us and in memory as transformers' reference."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine import Span
from swarm_server.loading import load_span, open_model

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}


class ReferenceLlama:
    """transformers' layers of a model, without embeddings and final norm."""

    def __init__(self, model: LlamaModel) -> None:
        self._model = model.eval()
        self._model.norm = torch.nn.Identity()

    @torch.inference_mode()
    def run(self, hidden: Tensor) -> Tensor:
        """Return the hidden states after all blocks, in one piece."""
        output: Tensor = self._model(inputs_embeds=hidden, use_cache=False).last_hidden_state
        return output


def save_llama(directory: Path, **changes: Any) -> ReferenceLlama:
    """Save a random float32 Llama as a checkpoint of a causal model and return its reference."""
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**SIZES | changes))
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, 1.0, 0.2)
    model.save_pretrained(directory)
    _name_as_causal_model(directory)
    return ReferenceLlama(model)


def load_all(directory: Path, dtype: torch.dtype = torch.float32) -> Span:
    """Load every block of a model with our own code."""
    model = open_model(str(directory))
    return load_span(model, BlockRange(0, model.num_blocks), dtype=dtype)


def _name_as_causal_model(directory: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    tensors = {f"model.{name}": tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path)
