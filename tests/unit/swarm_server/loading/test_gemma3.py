"""The config of a Gemma 3 inside a model that also sees."""

import pytest

from swarm_protocol.errors import CheckpointError
from swarm_server.loading.gemma3 import NestedGemma3


def test_sizes_that_a_nested_config_leaves_out_are_transformers_defaults() -> None:
    """Configs on the hub name only what differs."""
    model = NestedGemma3({"text_config": {"num_hidden_layers": 34, "hidden_size": 2560}})

    assert model.num_blocks == 34
    shape = model.shape
    assert (shape.hidden_size, shape.num_kv_heads, shape.head_dim) == (2560, 4, 256)


@pytest.mark.parametrize("config", [{}, {"text_config": None}, {"text_config": [1]}])
def test_a_nested_config_must_be_there(config: dict[str, object]) -> None:
    """config.json may come from anywhere."""
    with pytest.raises(CheckpointError, match="text_config must be an object"):
        NestedGemma3(config)
