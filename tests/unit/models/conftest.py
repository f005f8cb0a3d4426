"""Where the shipped model lies."""

from pathlib import Path

import pytest

import models


@pytest.fixture(scope="package")
def demo() -> Path:
    """The directory of the demo model."""
    return Path(models.__file__).parent / "demo"
