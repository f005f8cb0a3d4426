import json
from pathlib import Path

import pytest

from app.inference.model_loader import model_id_of, read_chat_defaults
from swarm_client.generation.parameters import SamplingParameters
from swarm_protocol.checkpoint import Checkpoint


def checkpoint_with(directory: Path, generation_config: object) -> Checkpoint:
    (directory / "config.json").write_text("{}")
    (directory / "generation_config.json").write_text(json.dumps(generation_config))
    return Checkpoint.open(str(directory))


@pytest.mark.parametrize("source", ["org/name", "name"])
def test_a_repository_is_called_by_its_name(source: str) -> None:
    """As on the hub."""
    assert model_id_of(source) == source


def test_a_directory_is_called_by_its_last_part(tmp_path: Path) -> None:
    """Callers never see paths of the machine."""
    assert model_id_of(f"{tmp_path}/") == tmp_path.name


def test_chat_defaults_are_what_the_makers_recommend(tmp_path: Path) -> None:
    """Fields that do not concern sampling are left aside; a null is none."""
    checkpoint = checkpoint_with(
        tmp_path, {"do_sample": True, "temperature": 0.6, "top_k": None, "eos_token_id": 2}
    )

    expected = SamplingParameters(do_sample=True, temperature=0.6)
    assert read_chat_defaults(checkpoint) == expected


@pytest.mark.parametrize("config", [{"temperature": -1}, {"do_sample": "yes"}, {}])
def test_chat_defaults_that_make_no_sense_are_none(
    tmp_path: Path, config: dict[str, object]
) -> None:
    """They must not keep a model from serving."""
    assert read_chat_defaults(checkpoint_with(tmp_path, config)) == SamplingParameters()
