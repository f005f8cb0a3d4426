"""What the log says of families that a CPU has no faster way for."""

from pathlib import Path

import pytest
import torch

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.reference_parts import reference_parts
from swarm_server.loading import load_span, open_model
from tests.harness.tiny_families import save_tiny_family

EXPERTS = "experts, one after the other"
NORMS = "norms with offset weights"
ROTATIONS = "rotations of normed queries and keys"


@pytest.mark.parametrize(
    ("family", "in_float32", "in_bfloat16"),
    [
        ("bloom", [], []),
        ("falcon-40b", [], []),
        ("gemma3", [], [NORMS, ROTATIONS]),
        ("llama", [], []),
        ("mixtral", [EXPERTS], [EXPERTS]),
        ("qwen3", [], [ROTATIONS]),
    ],
)
def test_each_family_says_what_it_lacks(
    family: str, in_float32: list[str], in_bfloat16: list[str], tmp_path: Path
) -> None:
    """All kinds of blocks are looked into."""
    model = open_model(str(save_tiny_family(family, tmp_path)))

    for dtype, expected in ((torch.float32, in_float32), (torch.bfloat16, in_bfloat16)):
        assert reference_parts(load_span(model, BlockRange(0, 1), dtype=dtype)) == expected
