"""A tiny model, trained once for all tests of the recipe."""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.training import train


@dataclass(frozen=True, slots=True)
class TinyTraining:
    """The directory that the trainer wrote, and the JSON objects it printed."""

    directory: Path
    reports: list[dict[str, Any]]


@pytest.fixture(scope="package")
def tiny_training(tmp_path_factory: pytest.TempPathFactory) -> TinyTraining:
    """Forty steps of a model with two blocks, on the CPU."""
    directory = tmp_path_factory.mktemp("trained") / "tiny"
    sizes = ["--preset", "tiny", "--docs", "1500", "--max-steps", "40", "--report-steps", "20"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train.main(["--out", str(directory), "--device", "cpu", *sizes])
    return TinyTraining(directory, [json.loads(line) for line in printed.getvalue().splitlines()])
