"""Every family: deep prompts and classifiers equal transformers' models with hooks and heads."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from swarm_client import (
    AutoDistributedModelForCausalLM,
    AutoDistributedModelForSequenceClassification,
)
from tests.harness.tiny_families import FAMILIES
from tests.integration.swarm_client.local_model import node_with_servers

ROWS = torch.tensor([[1, 50, 60, 70, 80, 90, 100, 110], [1, 9, 30, 200, 7, 0, 0, 0]])
HALVES = ["0:2", "2:4"]
NUM_PROMPTS = 3


def raise_first_states(deep: Tensor, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Hook before a block: add `[num_prompts, hidden_size]` to its first hidden states."""
    hidden, *rest = args
    raised = torch.cat([hidden[:, : len(deep)] + deep, hidden[:, len(deep) :]], dim=1)
    return (raised, *rest)


def logits_with_prompts(whole: PreTrainedModel, shallow: Tensor, deep: Tensor) -> Tensor:
    """Run transformers' model with prompts, `deep` being `[num_prompts, blocks * hidden_size]`."""
    trunk: Any = whole.base_model
    blocks = trunk.layers if hasattr(trunk, "layers") else trunk.h
    hooks = [
        block.register_forward_pre_hook(partial(raise_first_states, columns))
        for block, columns in zip(blocks, deep.chunk(len(blocks), dim=1), strict=True)
    ]
    embeds = whole.get_input_embeddings()(ROWS)
    prompts = torch.stack([shallow] * len(ROWS))
    logits: Tensor = whole(inputs_embeds=torch.cat([prompts, embeds], 1), use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return logits[:, NUM_PROMPTS:]


def gradients(logits: Tensor, *prompts: Tensor) -> list[Tensor]:
    """Return gradients of a loss that every logit has a part in."""
    return list(torch.autograd.grad(logits.log_softmax(-1).square().mean(), prompts))


@pytest.mark.parametrize("family", FAMILIES)
def test_deep_prompts_and_their_gradients_equal_transformers(family: str, tmp_path: Path) -> None:
    """Before a BLOOM's first norm, after a Gemma's scale, and through windows that slide."""
    path = FAMILIES[family](tmp_path / family)
    model = AutoDistributedModelForCausalLM.from_pretrained(
        str(path),
        torch_dtype="float32",
        node_factory=node_with_servers(path, HALVES),
        tuning_mode="deep_ptune",
        pre_seq_len=NUM_PROMPTS,
    )
    assert model.prompt_tuning is not None
    prompts = list(model.prompt_tuning.parameters())
    with torch.no_grad():
        for parameter in prompts:
            parameter.mul_(20)

    logits = model(ROWS).logits
    actual = gradients(logits, *prompts)
    model.close()

    whole = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    local_logits = logits_with_prompts(whole, *prompts)
    torch.testing.assert_close(logits, local_logits, atol=1e-4, rtol=1e-4)
    for mine, local in zip(actual, gradients(local_logits, *prompts), strict=True):
        scale = local.abs().max()  # float32 sums in another order, relative to the largest
        torch.testing.assert_close(mine / scale, local / scale, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_classifiers_equal_transformers(family: str, tmp_path: Path) -> None:
    """Of rows of unequal length."""
    path = FAMILIES[family](tmp_path / family)
    model = AutoDistributedModelForSequenceClassification.from_pretrained(
        str(path),
        torch_dtype="float32",
        node_factory=node_with_servers(path, HALVES),
        num_labels=3,
    )
    labels = torch.tensor([2, 0])

    with torch.no_grad():
        actual = model(ROWS, labels=labels)
    model.close()

    whole = AutoModelForSequenceClassification.from_pretrained(
        path, dtype=torch.float32, num_labels=3
    ).eval()
    whole.score.weight.data.copy_(model.score.weight)
    with torch.no_grad():
        expected = whole(ROWS, attention_mask=(ROWS != 0).long(), labels=labels)
    torch.testing.assert_close(actual.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(actual.loss, expected.loss, atol=1e-4, rtol=1e-4)
