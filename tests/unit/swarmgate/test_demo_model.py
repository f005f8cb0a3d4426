"""Where the demo model is."""

from pathlib import Path

import pytest

from swarmgate.demo_model import find_model
from swarmgate.errors import OptionError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_demo_model_is_found_from_every_directory() -> None:
    """It came with the project."""
    assert (Path(find_model("models/demo")) / "config.json").is_file()


def test_what_is_there_by_that_name_comes_first() -> None:
    """A directory means itself."""
    Path("models/demo").mkdir(parents=True)

    assert find_model("models/demo") == "models/demo"


@pytest.mark.parametrize("model", ["organization/model", "organization/model@main", "/data/model"])
def test_other_names_stay_as_they_are(model: str) -> None:
    """Whether they exist is for whoever opens them."""
    assert find_model(model) == model


def test_missing_demo_model_is_told_and_not_sought_at_the_hub(tmp_path: Path) -> None:
    """A wheel comes without it."""
    with pytest.raises(OptionError, match="nor part of this installation; give"):
        find_model("models/demo", project=tmp_path)
