"""Gemma 3's config and tensors, by themselves and inside a model that also sees."""

from pathlib import Path

import pytest
import torch

from swarm_client.models import load_local_parts, read_facts
from swarm_protocol.errors import CheckpointError
from tests.unit.swarm_client.models.checkpoints import local_tensors, write_checkpoint

FLAT = {"model_type": "gemma3_text"}
SIZES = ("num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings")


@pytest.mark.parametrize("prefix", ["language_model.", "model.language_"])
def test_the_language_model_of_one_that_sees_is_read(tmp_path: Path, prefix: str) -> None:
    """In both layouts that transformers has written; sizes are in `text_config`."""
    tensors = {f"{prefix}{name}": tensor for name, tensor in local_tensors().items()}
    nested = {"model_type": "gemma3_text", "hidden_size": 8, "vocab_size": 11}
    changes = {**dict.fromkeys(SIZES), "model_type": "gemma3", "text_config": nested}

    checkpoint = write_checkpoint(tmp_path, changes, tensors)
    parts = load_local_parts(checkpoint, dtype=torch.float32)

    assert (parts.facts.num_blocks, parts.facts.max_positions) == (26, 131_072)
    assert parts.facts.eos_token_ids == (2,)
    expected = local_tensors()["model.embed_tokens.weight"] * 8**0.5
    assert parts.embed(torch.arange(11)).equal(expected)


def test_the_embedding_scale_is_rounded_to_the_dtype(tmp_path: Path) -> None:
    """The root of 8 is 2.828125 in bfloat16."""
    parts = load_local_parts(write_checkpoint(tmp_path, FLAT), dtype=torch.bfloat16)

    expected = parts.word_embeddings.weight * torch.tensor(2.828125, dtype=torch.bfloat16)
    assert parts.embed(torch.arange(11)).equal(expected)


def test_capped_logits_are_refused(tmp_path: Path) -> None:
    """Other numbers than the model's would come out in silence."""
    checkpoint = write_checkpoint(tmp_path, FLAT | {"final_logit_softcapping": 30.0})

    with pytest.raises(CheckpointError, match="final_logit_softcapping"):
        read_facts(checkpoint)
