"""The gateway's engine serves models that are not Llamas."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from app.inference.requests import ChatMessage
from tests.harness.tiny_families import FAMILIES
from tests.integration.app.inference.swarm import LocalModel, collect, request_of, swarm_of


@pytest.mark.parametrize("name", ["bloom", "falcon-7b", "gemma3"])
async def test_a_chat_equals_transformers(tmp_path: Path, name: str) -> None:
    """Embedding norms and scales, LayerNorms and tied heads are the local parts' business."""
    model = FAMILIES[name](tmp_path / name)
    whole = LocalModel(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval())

    async with swarm_of(model) as swarm:
        served = swarm.engine.model(name)
        prompt = await served.encode(await served.render_chat([ChatMessage("user", "Hello there")]))
        conversation = await swarm.open()
        await collect(conversation, request_of(prompt, 12))
        tokens = tuple(conversation.token_ids)
        await conversation.close()

    assert tokens == (*prompt, *whole.continue_greedily(prompt, 12))
