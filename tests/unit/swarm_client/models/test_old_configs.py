"""Sizes in the configs of early BLOOM and Falcon checkpoints go by other names."""

from pathlib import Path
from typing import Any

import pytest

from swarm_client.models import read_facts
from tests.unit.swarm_client.models.checkpoints import write_checkpoint

ABSENT = dict.fromkeys(("num_hidden_layers", "hidden_size", "max_position_embeddings"))


@pytest.mark.parametrize("model_type", ["bloom", "falcon"])
@pytest.mark.parametrize(
    "fields",
    [
        {"n_layer": 5, "n_embed": 16},
        {"num_hidden_layers": 5, "hidden_size": 16},
        {"n_layer": 5, "hidden_size": 16},
    ],
)
def test_old_and_new_names_of_sizes_are_read(
    tmp_path: Path, model_type: str, fields: dict[str, Any]
) -> None:
    """They say nothing of their length; both were made for 2048 tokens."""
    facts = read_facts(write_checkpoint(tmp_path, ABSENT | fields | {"model_type": model_type}))

    assert (facts.num_blocks, facts.hidden_size, facts.max_positions) == (5, 16, 2048)
