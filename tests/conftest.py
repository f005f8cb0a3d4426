"""Fixtures of all tiers."""

from pathlib import Path

import pytest

from tests.harness.tiny_models import save_tiny_llama


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a random float32 Llama of 4 blocks and a byte-level tokenizer."""
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")
