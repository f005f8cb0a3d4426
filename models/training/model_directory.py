"""The model and its directory: configuration, weights in bfloat16, tokenizer, chat template."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from models.training.documents import BEGIN_ID, END_ID, PADDING_ID
from models.training.presets import Preset
from models.training.tokenizer import as_chat_tokenizer

MAX_POSITIONS = 2048

_GENERATION = {
    "do_sample": True,
    "temperature": 0.7,
    "top_p": 0.9,
    "max_new_tokens": 256,
    "bos_token_id": BEGIN_ID,
    "eos_token_id": END_ID,
    "pad_token_id": PADDING_ID,
}


def make_model(preset: Preset) -> LlamaForCausalLM:
    """A Llama with random float32 weights on the CPU, from torch's global generator."""
    config = LlamaConfig(
        vocab_size=preset.vocab_size,
        hidden_size=preset.hidden_size,
        intermediate_size=preset.intermediate_size,
        num_hidden_layers=preset.num_blocks,
        num_attention_heads=preset.num_heads,
        num_key_value_heads=preset.num_kv_heads,
        max_position_embeddings=MAX_POSITIONS,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=BEGIN_ID,
        eos_token_id=END_ID,
        pad_token_id=PADDING_ID,
        is_demo=True,  # ours: the gateway marks such a model wherever it names it
    )
    return LlamaForCausalLM(config)


def save_model_directory(model: LlamaForCausalLM, tokenizer: Tokenizer, directory: Path) -> None:
    """Write everything a server or transformers needs; other files there are left alone.

    The model itself is turned to bfloat16, so this ends its training.
    """
    model.generation_config = GenerationConfig(**_GENERATION)
    model.to(torch.bfloat16).save_pretrained(directory)
    as_chat_tokenizer(tokenizer, max_length=MAX_POSITIONS).save_pretrained(directory)
