"""A Llama with random weights in the shape that a benchmark asks for."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """Sizes of a Llama; the defaults are those of the targets in the issues."""

    hidden_size: int = 1024
    intermediate_size: int = 2816
    num_blocks: int = 16
    num_heads: int = 16
    num_kv_heads: int = 16
    vocab_size: int = 32_000
    max_positions: int = 4096


def save_random_llama(
    directory: Path, shape: LlamaShape, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Save the model and a tokenizer in which every token is a text of its own.

    There is no end token, so that a generation has exactly the length it is asked for.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_blocks,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).to(dtype).save_pretrained(directory)
    _tokenizer(shape.vocab_size).save_pretrained(directory)


def _tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [f"w{number}" for number in range(vocab_size - len(alphabet))]
    vocabulary = {token: index for index, token in enumerate((*alphabet, *words))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, pad_token=None
    )
