"""Where models come from."""

from pathlib import Path

import pytest

from app.inference.model_source import ModelSource
from swarm_protocol.errors import CheckpointError

COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"


def test_repository_may_be_pinned_to_a_commit() -> None:
    """Callers know the model by its name alone."""
    source = ModelSource.parse(f"meta-llama/Llama-3.1-8B-Instruct@{COMMIT}")

    assert source == ModelSource("meta-llama/Llama-3.1-8B-Instruct", COMMIT)
    assert source.id == "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(
    ("text", "is_pinned"),
    [("a/b", False), ("a/b@main", False), ("a/b@v1.0", False), (f"a/b@{COMMIT}", True)],
)
def test_only_a_commit_is_a_pin(text: str, is_pinned: bool) -> None:
    """Branches move, and tags can be moved."""
    assert ModelSource.parse(text).is_pinned is is_pinned


def test_directory_is_known_by_its_last_part_whatever_its_name(tmp_path: Path) -> None:
    """An @ in the name of a directory is no revision."""
    (tmp_path / "tiny@home").mkdir()

    source = ModelSource.parse(f"{tmp_path}/tiny@home")

    assert (source.revision, source.id) == (None, "tiny@home")


def test_revision_of_a_directory_is_refused(tmp_path: Path) -> None:
    """It would promise what nobody checks."""
    with pytest.raises(CheckpointError, match="is a directory"):
        ModelSource.parse(f"{tmp_path}@main")
