"""Facts of a checkpoint, whose files are input from outside."""

from pathlib import Path
from typing import Any

import pytest

from swarm_client.models import read_facts
from swarm_protocol.errors import CheckpointError, MalformedMessageError, UnsupportedModelError
from tests.unit.swarm_client.models.checkpoints import write_checkpoint


def test_facts_come_from_the_config(tmp_path: Path) -> None:
    """The prefix of a directory is its name."""
    directory = tmp_path / "my.model"
    directory.mkdir()

    facts = read_facts(write_checkpoint(directory))

    assert facts.model_type == "llama"
    assert (facts.num_blocks, facts.hidden_size, facts.vocab_size) == (3, 8, 11)
    assert facts.max_positions == 64
    assert facts.dht_prefix == "my-model"
    assert (facts.bos_token_id, facts.eos_token_ids, facts.pad_token_id) == (1, (2,), None)


def test_a_given_prefix_goes_before_the_derived_one(tmp_path: Path) -> None:
    """It is checked like any."""
    checkpoint = write_checkpoint(tmp_path)

    assert read_facts(checkpoint, dht_prefix="other").dht_prefix == "other"
    with pytest.raises(MalformedMessageError):
        read_facts(checkpoint, dht_prefix="a b")


@pytest.mark.parametrize(
    ("generation", "expected"),
    [({"eos_token_id": [5, 6]}, (5, 6)), ({"eos_token_id": 7}, (7,)), ({}, (2,)), (None, (2,))],
)
def test_ends_of_text_come_from_the_generation_config_first(
    tmp_path: Path, generation: dict[str, Any] | None, expected: tuple[int, ...]
) -> None:
    """Chat models name more than one there."""
    assert read_facts(write_checkpoint(tmp_path, generation=generation)).eos_token_ids == expected


def test_an_unknown_architecture_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """The message helps to choose."""
    with pytest.raises(UnsupportedModelError, match=r"gpt2.*llama"):
        read_facts(write_checkpoint(tmp_path, {"model_type": "gpt2"}))


@pytest.mark.parametrize("value", [None, 0, -1, "8", True, 1 << 40])
def test_a_missing_or_absurd_size_is_refused_by_name(tmp_path: Path, value: Any) -> None:
    """config.json may come from anywhere."""
    with pytest.raises(CheckpointError, match="hidden_size"):
        read_facts(write_checkpoint(tmp_path, {"hidden_size": value}))
