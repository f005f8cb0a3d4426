"""Classifiers over real block servers equal transformers'."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from swarm_client.errors import InvalidParametersError, PaddingError
from swarm_client.models.model_classes import (
    DistributedLlamaForSequenceClassification as Classifier,
)
from swarm_client.tuning import TrainedPartsMismatchError
from tests.integration.swarm_client.local_model import distributed
from tests.integration.swarm_client.tuning.local_twin import LocalTwin, assert_close, enlarge

# The second row is shorter.
ROWS = torch.tensor([[1, 50, 60, 70, 80], [1, 9, 30, 0, 0], [1, 7, 7, 8, 0]])
MASK = (ROWS != 0).long()
HALVES = ["0:2", "2:4"]


def local_classifier(
    model: Path, score: Tensor, problem_type: str | None = None
) -> LlamaForSequenceClassification:
    """Return transformers' own, with the same head."""
    whole = LlamaForCausalLM.from_pretrained(model)
    config = LlamaConfig.from_pretrained(model, num_labels=len(score), problem_type=problem_type)
    local = LlamaForSequenceClassification(config).requires_grad_(False)
    local.model = whole.model.requires_grad_(False)
    local.score.weight = torch.nn.Parameter(score.detach().clone())
    return local.eval()


def test_logits_loss_and_gradient_of_the_head_equal_transformers(tiny_llama: Path) -> None:
    """Rows of unequal length, padded on the right."""
    labels = torch.tensor([2, 0, 1])
    with distributed(Classifier, tiny_llama, HALVES, num_labels=3) as model:
        local = local_classifier(tiny_llama, model.score.weight)

        ours = model(ROWS, attention_mask=MASK, labels=labels)
        theirs = local(ROWS, attention_mask=MASK, labels=labels)
        torch.autograd.backward([ours.loss])
        torch.autograd.backward([theirs.loss])

        assert_close(ours.logits, theirs.logits)
        assert_close(ours.loss, theirs.loss)
        assert_close(model.score.weight.grad, local.score.weight.grad)


def test_padding_on_the_left_changes_nothing(tiny_llama: Path) -> None:
    """Neither without prompts nor with deep ones, which go before the tokens of each row."""
    for options in ({}, {"tuning_mode": "deep_ptune", "pre_seq_len": 2}):
        with distributed(Classifier, tiny_llama, HALVES, num_labels=3, **options) as model:
            if model.prompt_tuning is not None:
                enlarge(model.prompt_tuning)
            padded = torch.stack([row.roll(int((row == 0).sum())) for row in ROWS])

            with torch.no_grad():
                ours = model(padded, attention_mask=(padded != 0).long()).logits
                expected = torch.cat([model(row[row != 0][None]).logits for row in ROWS])

            assert_close(ours, expected)


@pytest.mark.parametrize(
    ("num_labels", "problem_type", "labels"),
    [
        (1, None, torch.tensor([0.5, -1.0, 2.0])),
        (2, "multi_label_classification", torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])),
    ],
)
def test_other_problems_have_transformers_losses(
    tiny_llama: Path, num_labels: int, problem_type: str | None, labels: Tensor
) -> None:
    """Regression, and several labels at once."""
    with distributed(
        Classifier, tiny_llama, ["0:4"], num_labels=num_labels, problem_type=problem_type
    ) as model:
        local = local_classifier(tiny_llama, model.score.weight, problem_type)

        assert_close(model(ROWS, labels=labels).loss, local(ROWS, labels=labels).loss)


def test_embeddings_stand_for_tokens(tiny_llama: Path) -> None:
    """Their last position is the row's."""
    rows = ROWS[:1]
    with distributed(Classifier, tiny_llama, ["0:4"]) as model, torch.no_grad():
        embeds = model.transformer.word_embeddings(rows)

        assert_close(model(inputs_embeds=embeds).logits, model(rows).logits)
        with pytest.raises(ValueError, match="either"):
            model(rows, inputs_embeds=embeds)


@pytest.mark.parametrize("mode", ["ptune", "deep_ptune"])
def test_gradients_of_prompts_and_head_equal_a_local_twins(tiny_llama: Path, mode: str) -> None:
    """The prompt shifts every row, so its end is found in the tokens and not in the states."""
    labels = torch.tensor([1, 0, 1])
    whole = LlamaForCausalLM.from_pretrained(tiny_llama).requires_grad_(False)
    with distributed(Classifier, tiny_llama, HALVES, tuning_mode=mode, pre_seq_len=4) as model:
        prompts = model.prompt_tuning
        assert prompts is not None
        enlarge(prompts)
        twin = LocalTwin(whole, prompts)
        score = model.score.weight.detach().clone().requires_grad_()

        loss = model(ROWS, attention_mask=MASK, labels=labels).loss
        ends = twin.hidden(ROWS)[torch.arange(3), torch.tensor([4, 2, 3])]
        twin_loss = torch.nn.functional.cross_entropy(ends @ score.T, labels)
        torch.autograd.backward([loss])
        torch.autograd.backward([twin_loss])

    assert_close(loss, twin_loss)
    assert_close(model.score.weight.grad, score.grad)
    assert_close(prompts.prompt_embeddings.grad, twin.shallow.grad)
    if twin.deep is not None:
        assert prompts.deep_prompt_embeddings is not None
        assert_close(prompts.deep_prompt_embeddings.grad, twin.deep.grad)


def test_training_lowers_the_loss_and_survives_saving(tiny_llama: Path, tmp_path: Path) -> None:
    """Deep prompts and head, with an ordinary optimizer over all parameters."""
    labels = torch.tensor([1, 0, 1])
    torch.manual_seed(0)
    options = {"tuning_mode": "deep_ptune", "pre_seq_len": 2}
    with distributed(Classifier, tiny_llama, HALVES, **options) as model:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
        losses = []
        for _ in range(8):
            loss = model(ROWS, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.save_trained(tmp_path)
        with torch.no_grad():
            expected = model(ROWS).logits

    assert losses[-1] < losses[0] / 2
    with distributed(Classifier, tiny_llama, ["0:4"], **options) as fresh, torch.no_grad():
        fresh.load_trained(tmp_path)
        torch.testing.assert_close(fresh(ROWS).logits, expected, atol=1e-4, rtol=1e-4)


def test_a_head_of_another_size_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    """And so is one with prompts, where there are none."""
    with distributed(Classifier, tiny_llama, ["0:4"], num_labels=3) as model:
        model.save_trained(tmp_path)
    with (
        distributed(Classifier, tiny_llama, ["0:4"]) as other,
        pytest.raises(TrainedPartsMismatchError, match=r"score\.weight is \[3, 64\] there"),
    ):
        other.load_trained(tmp_path)


def test_what_cannot_be_classified_is_refused(tiny_llama: Path) -> None:
    """Before anything is sent."""
    with distributed(Classifier, tiny_llama, ["0:4"]) as model:
        with pytest.raises(PaddingError, match="padding after one of them"):
            model(ROWS, attention_mask=torch.tensor([1, 1, 0, 1, 1]).expand(3, -1))
        model.config.pad_token_id = None
        with pytest.raises(ValueError, match="pad_token_id"):
            model(ROWS)
    with pytest.raises(InvalidParametersError, match="num_labels"):
        Classifier.from_pretrained(
            str(tiny_llama), initial_peers=["/ip4/127.0.0.1/tcp/1/p2p/x"], num_labels=0
        )
