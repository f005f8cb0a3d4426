"""One small random model of every family that is served, saved as transformers saves it.

Windows are shorter than the sequences of the tests, heads are grouped where the family groups
them, and norms and biases are random too: a forgotten one changes the numbers.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from tests.harness.tiny_models import byte_tokenizer

_HEADS: Final = {"num_attention_heads": 4}
_GROUPED: Final = _HEADS | {"num_key_value_heads": 2}
_GATED: Final = _GROUPED | {"intermediate_size": 96, "max_position_embeddings": 512}
_UNTIED: Final = {"tie_word_embeddings": False}
_LLAMA3: Final = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_GEMMA3_ROPES: Final = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 8.0},
}
_MAKERS: Final[Mapping[str, tuple[type[PreTrainedConfig], dict[str, Any]]]] = MappingProxyType(
    {
        "bloom": (
            BloomConfig,
            {"num_attention_heads": 6, "hidden_size": 48, "initializer_range": 0.3},
        ),
        "llama": (LlamaConfig, _GATED | _UNTIED),
        "llama3": (LlamaConfig, _GATED | {"rope_parameters": _LLAMA3, "tie_word_embeddings": True}),
        "falcon-7b": (FalconConfig, _HEADS),
        "falcon-40b": (
            FalconConfig,
            _HEADS | {"new_decoder_architecture": True, "num_kv_heads": 2},
        ),
        "falcon-180b": (
            FalconConfig,
            _UNTIED
            | {"new_decoder_architecture": True, "num_attention_heads": 8, "num_kv_heads": 2},
        ),
        "falcon-11b": (
            FalconConfig,
            _HEADS
            | {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
        ),
        "falcon-rw": (
            FalconConfig,
            _HEADS | {"alibi": True, "bias": True, "multi_query": False, "parallel_attn": False},
        ),
        "mixtral": (MixtralConfig, _GATED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
        "qwen3": (Qwen3Config, _GATED | {"head_dim": 24, "tie_word_embeddings": True}),
        "qwen3-sliding": (
            Qwen3Config,
            _GATED
            | {"head_dim": 16, "use_sliding_window": True, "sliding_window": 5}
            | {"max_window_layers": 2},
        ),
        "gemma3": (
            Gemma3TextConfig,
            _GATED
            | {"num_key_value_heads": 1, "head_dim": 24, "query_pre_attn_scalar": 20}
            | {"sliding_window": 5, "rope_parameters": _GEMMA3_ROPES, "initializer_range": 0.05}
            | {
                "layer_types": [
                    "sliding_attention",
                    "full_attention",
                    "sliding_attention",
                    "full_attention",
                ]
            },
        ),
        "mistral": (MistralConfig, _GATED | {"sliding_window": 6}),
    }
)


def tiny_family_config(name: str, **changes: Any) -> PreTrainedConfig:
    """Return the config of an entry of `FAMILIES`, with 4 blocks, and with fields changed."""
    make, fields = _MAKERS[name]
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes = {"vocab_size": len(byte_tokenizer()), "hidden_size": 64, "num_hidden_layers": 4}
    return make(**(sizes | tokens | {"initializer_range": 0.2} | fields | changes))


def save_tiny_family(
    name: str, directory: Path, *, shard_size: str = "5GB", **changes: Any
) -> Path:
    """Save a float32 model with random parameters and its byte tokenizer; return `directory`."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_family_config(name, **changes)).float()
    _randomize_vectors(model)
    model.save_pretrained(directory, max_shard_size=shard_size)
    byte_tokenizer().save_pretrained(directory)
    return directory


def _randomize_vectors(model: PreTrainedModel) -> None:
    """Move norms and biases, which a fresh model has at zero or one, away from there."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)


FAMILIES: Final[Mapping[str, Callable[[Path], Path]]] = MappingProxyType(
    {name: partial(save_tiny_family, name) for name in _MAKERS}
)
"""Name -> saver of that model into a directory, which it returns."""
