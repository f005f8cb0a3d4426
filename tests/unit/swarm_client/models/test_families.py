"""The local parts of every family compute what transformers computes."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from swarm_client.models import load_local_parts, model_classes
from swarm_client.models.family import Family
from swarm_client.models.registry import FAMILIES as KNOWN
from swarm_protocol.checkpoint import Checkpoint
from tests.harness.tiny_families import FAMILIES

IDS = torch.tensor([[1, 5, 9], [2, 0, 250]])
LOCAL_LAYERS = ("word_embeddings.", "word_embeddings_layernorm.", "ln_f.", "embed_tokens.", "norm.")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A directory of each kind of model."""
    parent = tmp_path_factory.mktemp("families")
    return {name: save(parent / name) for name, save in FAMILIES.items()}


def embedded(model: PreTrainedModel) -> Tensor:
    """What transformers puts into the first block."""
    seen: list[Tensor] = []
    blocks = getattr(model.base_model, "h", None) or model.base_model.layers
    with blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0])):
        model(IDS)
    return seen[0]


def head_of(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The logits that transformers makes of a last block's output."""
    norm = getattr(model.base_model, "ln_f", None) or model.base_model.norm
    logits: Tensor = model.lm_head(norm(hidden)).float()
    return logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FAMILIES)
def test_embeddings_and_logits_equal_transformers(
    saved: Mapping[str, Path], name: str, dtype: torch.dtype
) -> None:
    """Bit for bit, in both dtypes; logits are float32."""
    parts = load_local_parts(Checkpoint.open(str(saved[name])), dtype=dtype)
    whole = AutoModelForCausalLM.from_pretrained(saved[name], dtype=dtype).eval()
    hidden = 7 * torch.randn(4, parts.facts.hidden_size, generator=torch.Generator().manual_seed(0))

    assert parts.embed(IDS).equal(embedded(whole))
    assert parts.embed(IDS).dtype == parts.dtype == dtype
    assert parts.logits(hidden.to(dtype)).equal(head_of(whole, hidden.to(dtype)))


@pytest.mark.parametrize("name", FAMILIES)
def test_only_the_local_tensors_are_held_and_none_is_trained(
    saved: Mapping[str, Path], name: str
) -> None:
    """A tied head is the embedding itself and takes no memory."""
    parts = load_local_parts(Checkpoint.open(str(saved[name])), dtype=torch.float32)
    facts = parts.facts
    is_tied = parts.lm_head.weight.data_ptr() == parts.word_embeddings.weight.data_ptr()
    num_matrices = 1 if is_tied else 2

    held = {parameter.data_ptr(): parameter.numel() for parameter in parts.parameters()}
    vectors = sum(held.values()) - num_matrices * facts.vocab_size * facts.hidden_size
    assert vectors <= 4 * facts.hidden_size
    assert not any(parameter.requires_grad for parameter in parts.parameters())


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("bloom", "transformer."), ("falcon-7b", "transformer."), ("llama3", "model.")],
)
def test_names_are_found_without_their_usual_prefix(
    saved: Mapping[str, Path], tmp_path: Path, name: str, prefix: str
) -> None:
    """Models saved without their head lack it; the blocks are not needed."""
    tensors = {
        tensor_name.removeprefix(prefix): tensor
        for tensor_name, tensor in load_file(saved[name] / "model.safetensors").items()
    }
    local = {key: tensor for key, tensor in tensors.items() if key.startswith(LOCAL_LAYERS)}
    save_file(local, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((saved[name] / "config.json").read_text())

    parts = load_local_parts(Checkpoint.open(str(tmp_path)), dtype=torch.float32)

    whole = load_local_parts(Checkpoint.open(str(saved[name])), dtype=torch.float32)
    assert parts.embed(IDS).equal(whole.embed(IDS))


@pytest.mark.parametrize("task", ["CausalLM", "SequenceClassification"])
@pytest.mark.parametrize("family", KNOWN, ids=lambda family: family.name)
def test_every_family_has_its_classes(family: Family, task: str) -> None:
    """Named as in Petals; the config they take is of the family."""
    chosen = getattr(model_classes, f"Distributed{family.name}For{task}")

    assert chosen.config_class.model_type in family.model_types
