"""Llama's local parts compute what transformers computes."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from swarm_client.models import load_local_parts
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError
from tests.unit.swarm_client.models.checkpoints import local_tensors, write_checkpoint


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_embedding_norm_and_head_equal_transformers(tiny_llama: Path, dtype: torch.dtype) -> None:
    """Bit for bit, in both dtypes; logits are float32."""
    parts = load_local_parts(Checkpoint.open(str(tiny_llama)), dtype=dtype)
    whole = LlamaForCausalLM.from_pretrained(tiny_llama, dtype=dtype)
    token_ids = torch.tensor([[1, 5, 9], [2, 0, 250]])
    hidden = (7 * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))).to(dtype)

    assert parts.embed(token_ids).equal(whole.model.embed_tokens(token_ids))
    logits = parts.logits(hidden)
    assert logits.dtype == torch.float32
    assert logits.equal(whole.lm_head(whole.model.norm(hidden)).float())


def test_only_the_local_tensors_are_read(tmp_path: Path) -> None:
    """This checkpoint has no blocks at all."""
    parts = load_local_parts(write_checkpoint(tmp_path), dtype=torch.float32)

    assert sum(parameter.numel() for parameter in parts.parameters()) == 2 * 11 * 8 + 8
    assert not any(parameter.requires_grad for parameter in parts.parameters())


def test_a_tied_head_is_the_embedding_itself(tmp_path: Path) -> None:
    """One tensor in memory; a head in the file is not read."""
    checkpoint = write_checkpoint(tmp_path, {"tie_word_embeddings": True})

    parts = load_local_parts(checkpoint, dtype=torch.float32)

    assert parts.lm_head.weight.data_ptr() == parts.word_embeddings.weight.data_ptr()
    assert parts.lm_head.weight.equal(local_tensors()["model.embed_tokens.weight"])


def test_a_missing_head_is_named(tmp_path: Path) -> None:
    """Random weights in its place would give nonsense in silence."""
    tensors = local_tensors()
    del tensors["lm_head.weight"]

    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        load_local_parts(write_checkpoint(tmp_path, tensors=tensors), dtype=torch.float32)


@pytest.mark.parametrize("name", list(local_tensors()))
def test_a_tensor_of_another_shape_is_named(tmp_path: Path, name: str) -> None:
    """The config says what it should be."""
    tensors = {**local_tensors(), name: torch.zeros(5, 8)}

    with pytest.raises(CheckpointError, match=name):
        load_local_parts(write_checkpoint(tmp_path, tensors=tensors), dtype=torch.float32)
