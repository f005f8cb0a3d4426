"""Where the shipped model lies, and how torch runs here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import models


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Small models gain nothing from more threads, and wait for each other on a busy machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="package")
def demo() -> Path:
    """The directory of the demo model."""
    return Path(models.__file__).parent / "demo"
