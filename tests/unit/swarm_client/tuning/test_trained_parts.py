"""Rules of files of trained parts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from swarm_client.tuning import (
    PromptTuning,
    TrainedFor,
    TrainedPartsError,
    TrainedPartsMismatchError,
    TuningMode,
    load_trained,
    save_trained,
)
from swarm_client.tuning.trained_parts import PURPOSE_FILE, TENSORS_FILE
from tests.unit.swarm_client.scripted_server import FACTS

PURPOSE = TrainedFor.of(FACTS)


class Classifier(nn.Module):
    """A frozen layer and a trained one."""

    def __init__(self, seed: int, num_labels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.score = nn.Linear(8, num_labels)


def prompts(mode: TuningMode = TuningMode.DEEP_PTUNE, pre_seq_len: int = 3) -> PromptTuning:
    return PromptTuning(FACTS, mode=mode, pre_seq_len=pre_seq_len, dtype=torch.float32)


def test_what_was_trained_comes_back_and_nothing_else(tmp_path: Path) -> None:
    """The frozen layer is the model's; it is neither written nor read."""
    saved, loaded = Classifier(seed=1), Classifier(seed=2)
    frozen = loaded.frozen.weight.clone()

    save_trained(saved, PURPOSE, tmp_path / "new" / "folder")
    load_trained(loaded, PURPOSE, tmp_path / "new" / "folder")

    assert load_file(tmp_path / "new" / "folder" / TENSORS_FILE).keys() == {
        "score.weight",
        "score.bias",
    }
    assert loaded.score.weight.equal(saved.score.weight)
    assert loaded.score.bias.equal(saved.score.bias)
    assert loaded.frozen.weight.equal(frozen)


def test_a_later_save_replaces_an_earlier_one(tmp_path: Path) -> None:
    """No other file is left."""
    first, second, loaded = Classifier(seed=1), Classifier(seed=2), Classifier(seed=3)

    save_trained(first, PURPOSE, tmp_path)
    save_trained(second, PURPOSE, tmp_path)
    load_trained(loaded, PURPOSE, tmp_path)

    assert loaded.score.weight.equal(second.score.weight)
    assert {path.name for path in tmp_path.iterdir()} == {TENSORS_FILE, PURPOSE_FILE}


def test_loading_keeps_the_dtype_of_the_module(tmp_path: Path) -> None:
    """Parts trained in float32 may serve a bfloat16 model."""
    saved, loaded = Classifier(seed=1), Classifier(seed=2).bfloat16()

    save_trained(saved, PURPOSE, tmp_path)
    load_trained(loaded, PURPOSE, tmp_path)

    assert loaded.score.weight.equal(saved.score.weight.bfloat16())


def test_a_part_may_be_frozen_when_it_is_read(tmp_path: Path) -> None:
    """Whoever only uses it wants no gradients."""
    saved, loaded = Classifier(seed=1), Classifier(seed=2).requires_grad_(False)

    save_trained(saved, PURPOSE, tmp_path)
    load_trained(loaded, PURPOSE, tmp_path)

    assert loaded.score.weight.equal(saved.score.weight)


def test_all_differences_of_purpose_are_told_at_once(tmp_path: Path) -> None:
    """One error for another model, tuning mode and size."""
    save_trained(prompts(), TrainedFor.of(FACTS, prompts()), tmp_path)
    other = prompts(TuningMode.PTUNE, pre_seq_len=5)
    facts = replace(FACTS, dht_prefix="other", hidden_size=16)

    with pytest.raises(TrainedPartsMismatchError) as caught:
        load_trained(other, TrainedFor.of(facts, other), tmp_path)

    assert caught.value.differences == (
        "model is 'test' there and 'other' here",
        "hidden_size is 8 there and 16 here",
        "tuning_mode is 'deep_ptune' there and 'ptune' here",
        "pre_seq_len is 3 there and 5 here",
    )


def test_another_number_of_labels_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    """Shapes are compared before any tensor is read."""
    save_trained(Classifier(seed=1, num_labels=3), PURPOSE, tmp_path)
    module = Classifier(seed=2)
    before = module.score.weight.clone()

    with pytest.raises(TrainedPartsMismatchError) as caught:
        load_trained(module, PURPOSE, tmp_path)

    assert caught.value.differences == (
        "score.bias is [3] there and [2] here",
        "score.weight is [3, 8] there and [2, 8] here",
    )
    assert module.score.weight.equal(before)


def test_parameters_must_be_the_same_ones(tmp_path: Path) -> None:
    """A part left random by loading would be found out much later."""
    save_trained(Classifier(seed=1), PURPOSE, tmp_path)

    with pytest.raises(TrainedPartsMismatchError) as caught:
        load_trained(nn.Linear(8, 2, bias=False), PURPOSE, tmp_path)

    assert caught.value.differences == (
        "weight was not saved",
        "there is no parameter score.bias here",
        "there is no parameter score.weight here",
    )


def test_nothing_trained_is_nothing_to_save(tmp_path: Path) -> None:
    """A mistake of the caller, told before a file is written."""
    with pytest.raises(TrainedPartsError, match="nothing to save"):
        save_trained(Classifier(seed=1).requires_grad_(False), PURPOSE, tmp_path / "new")

    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", [TENSORS_FILE, PURPOSE_FILE])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """So that it can be looked for."""
    save_trained(Classifier(seed=1), PURPOSE, tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(TrainedPartsError, match=name):
        load_trained(Classifier(seed=2), PURPOSE, tmp_path)


@pytest.mark.parametrize("name", [TENSORS_FILE, PURPOSE_FILE])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    """Files come from outside."""
    save_trained(Classifier(seed=1), PURPOSE, tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(TrainedPartsError, match=name):
        load_trained(Classifier(seed=2), PURPOSE, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"), [("format_version", 2), ("num_blocks", "many"), ("unknown", 1)]
)
def test_a_description_that_is_not_ours_is_refused(
    tmp_path: Path, field: str, value: object
) -> None:
    """The error names the field."""
    save_trained(Classifier(seed=1), PURPOSE, tmp_path)
    path = tmp_path / PURPOSE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))

    with pytest.raises(TrainedPartsError, match=field):
        load_trained(Classifier(seed=2), PURPOSE, tmp_path)
