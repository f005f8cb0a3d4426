"""Embeddings of texts, from servers that hold half of the model each."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from app.inference import pooling
from app.inference.errors import EmptyPromptError, PromptTooLongError
from tests.integration.app.inference.swarm import swarm_of


@pytest.mark.parametrize("chunk_tokens", [512, 3])
async def test_embedding_is_the_mean_of_the_last_hidden_state(
    tiny_llama: Path, chunk_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As transformers computes it, however the tokens are cut into steps."""
    monkeypatch.setattr(pooling, "_CHUNK_TOKENS", chunk_tokens)
    async with swarm_of(tiny_llama) as swarm:
        model = swarm.engine.model("tiny-llama")
        token_ids = await model.encode("Once upon a time")
        embedding = await model.mean_hidden_state(token_ids)

    with torch.no_grad():
        reference = AutoModel.from_pretrained(tiny_llama, torch_dtype=torch.float32)
        expected = reference(torch.tensor([token_ids])).last_hidden_state[0].mean(dim=0)
    torch.testing.assert_close(torch.tensor(embedding), expected, atol=1e-5, rtol=1e-4)


async def test_nothing_and_too_much_are_refused(tiny_llama: Path) -> None:
    """Before a session is opened."""
    async with swarm_of(tiny_llama) as swarm:
        model = swarm.engine.model("tiny-llama")
        with pytest.raises(EmptyPromptError):
            await model.mean_hidden_state([])
        with pytest.raises(PromptTooLongError):
            await model.mean_hidden_state([5] * (model.facts.max_positions + 1))
