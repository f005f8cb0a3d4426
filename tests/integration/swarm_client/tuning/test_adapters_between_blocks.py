"""The classifier of Petals' notebook, with an adapter between remote blocks, and a local twin."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM

from swarm_client.tuning import load_trained, save_trained
from tests.integration.swarm_client.local_model import local_model
from tests.integration.swarm_client.tuning.local_twin import LocalBlocks, assert_close

THIRDS = ["0:1", "1:3", "3:4"]
LABELS = torch.tensor([1, 0, 1])


class NotebookClassifier(nn.Module):
    """As printed in the notebook."""

    def __init__(self, distributed_layers: nn.Module, hidden_size: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.distributed_layers = distributed_layers
        self.adapter = nn.Sequential(nn.Linear(hidden_size, 32), nn.Linear(32, hidden_size))
        self.head = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, 2))

    def forward(self, embeddings: Tensor) -> Tensor:
        layers: Any = self.distributed_layers
        mid_block = len(layers) // 2
        hidden_states = layers[:mid_block](embeddings)
        hidden_states = self.adapter(hidden_states)
        hidden_states = layers[mid_block:](hidden_states)
        pooled_states = torch.mean(hidden_states, dim=1)
        logits: Tensor = self.head(pooled_states)
        return logits


@pytest.fixture(scope="module")
def blocks(tiny_llama: Path) -> LocalBlocks:
    """The same blocks in one process."""
    return LocalBlocks(LlamaForCausalLM.from_pretrained(tiny_llama).requires_grad_(False))


def embeddings() -> Tensor:
    return torch.randn(3, 2, 64, generator=torch.Generator().manual_seed(1))


def step(classifier: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> float:
    """Train once; return the loss before."""
    loss = functional.cross_entropy(classifier(inputs), LABELS)
    optimizer.zero_grad()
    torch.autograd.backward([loss])
    optimizer.step()
    return loss.item()


def test_gradients_equal_a_local_twins(tiny_llama: Path, blocks: LocalBlocks) -> None:
    """Of adapter and head, and of the embeddings that go in."""
    ours_in, theirs_in = embeddings().requires_grad_(), embeddings().requires_grad_()
    with local_model(tiny_llama, THIRDS) as model:
        ours = NotebookClassifier(model.transformer.h, 64)
        theirs = NotebookClassifier(blocks, 64)

        for classifier, inputs in ((ours, ours_in), (theirs, theirs_in)):
            torch.autograd.backward([functional.cross_entropy(classifier(inputs), LABELS)])

    assert_close(ours_in.grad, theirs_in.grad)
    for (name, mine), (_, other) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert mine.grad is not None, name
        assert_close(mine.grad, other.grad)


def test_the_loss_falls_as_it_does_locally(tiny_llama: Path, blocks: LocalBlocks) -> None:
    """Step by step, and to less than a fifth."""
    with local_model(tiny_llama, THIRDS) as model:
        ours = NotebookClassifier(model.transformer.h, 64)
        theirs = NotebookClassifier(blocks, 64)
        optimizers = [torch.optim.Adam(each.parameters(), lr=1e-2) for each in (ours, theirs)]
        losses = [step(ours, optimizers[0], embeddings()) for _ in range(10)]
        expected = [step(theirs, optimizers[1], embeddings()) for _ in range(10)]

    # Adam divides by small numbers, so rounding grows from step to step.
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), atol=1e-3, rtol=1e-2)
    assert losses[-1] < losses[0] / 5


def test_a_users_own_module_is_saved_and_loaded(tiny_llama: Path, tmp_path: Path) -> None:
    """Without any block in the file."""
    with local_model(tiny_llama, ["0:4"]) as model:
        saved = NotebookClassifier(model.transformer.h, 64)
        loaded = NotebookClassifier(model.transformer.h, 64)
        with torch.no_grad():
            for parameter in saved.parameters():
                parameter.mul_(2)

        save_trained(saved, model.trained_for, tmp_path)
        load_trained(loaded, model.trained_for, tmp_path)

        with torch.no_grad():
            assert loaded(embeddings()).equal(saved(embeddings()))
