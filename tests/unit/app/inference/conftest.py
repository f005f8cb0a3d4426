"""Fixtures of the engine's unit tests."""

from pathlib import Path

import pytest
import torch

from swarm_client.models import LocalParts, load_local_parts
from swarm_protocol.checkpoint import Checkpoint


@pytest.fixture
def parts(tiny_llama: Path) -> LocalParts:
    """Embeddings and LM head of the tiny Llama, in float32."""
    return load_local_parts(Checkpoint.open(str(tiny_llama)), dtype=torch.float32)
