"""Fixtures of all tiers."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.harness.spreading import FileScheduling, spread
from tests.harness.tiny_models import save_tiny_llama

# Machines are shared, so time proves nothing; and CI judges a change, not the luck of a search.
settings.register_profile(
    "swarmgate",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.register_profile("fuzz", settings.get_profile("swarmgate"), derandomize=False)
settings.load_profile("swarmgate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    spread(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FileScheduling:
    """Keep files whole, whatever `--dist` says."""
    config.option.loadscopereorder = False
    return FileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Models of a test are so small that threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a random float32 Llama of 4 blocks and a byte-level tokenizer."""
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")
