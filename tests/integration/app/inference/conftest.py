"""Fixtures: swarms of tiny models, and the same models in transformers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaForCausalLM

from tests.harness.tiny_models import SPECIAL_TOKENS, save_tiny_llama
from tests.integration.app.inference.swarm import LocalModel, Swarm, swarm_of


@pytest.fixture
async def swarm(tiny_llama: Path) -> AsyncIterator[Swarm]:
    """Of the tiny Llama, whose tokens are bytes."""
    async with swarm_of(tiny_llama) as swarm:
        yield swarm


@pytest.fixture(scope="session")
def pairs_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose tokens are letters and pairs of letters, so that texts can cut them."""
    directory = save_tiny_llama(tmp_path_factory.mktemp("models") / "pairs")
    letters = "abcdefghijklmnop"
    merges = [(first, second) for first in letters for second in letters][:240]
    words = [*SPECIAL_TOKENS, *letters, *map("".join, merges)]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


@pytest.fixture
async def pairs_swarm(pairs_model: Path) -> AsyncIterator[Swarm]:
    """Of the model whose tokens are pairs of letters."""
    async with swarm_of(pairs_model) as swarm:
        yield swarm


@pytest.fixture(scope="session")
def local_model(tiny_llama: Path) -> LocalModel:
    """The tiny Llama; both models here have the same weights."""
    model = LlamaForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    return LocalModel(model.eval())
