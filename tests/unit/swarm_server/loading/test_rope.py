"""Rotary parameters in configs."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from swarm_protocol.errors import CheckpointError
from swarm_server.engine.rope import LinearScaling, Llama3Scaling, Rope
from swarm_server.loading.rope import read_rope

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, Rope()),
        ({"rope_theta": 5e5, "rope_scaling": None}, Rope(5e5)),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, Rope(5e5)),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}},
            Rope(5e5, LinearScaling(2.0)),
        ),
        (
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
            Rope(5e5, Llama3Scaling(8.0, 1.0, 4.0, 8192)),
        ),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
            Rope(5e5, Llama3Scaling(8.0, 1.0, 4.0, 8192)),
        ),
    ],
)
def test_both_forms_are_read(config: dict[str, Any], expected: Rope) -> None:
    """`rope_parameters`, and `rope_theta` beside `rope_scaling`."""
    assert read_rope(config) == expected


def test_llama3_frequencies_equal_transformers() -> None:
    """Computed by transformers from the same numbers, for the sizes of Llama 3.1."""
    parameters = {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}
    config = LlamaConfig(
        hidden_size=4096,
        num_attention_heads=32,
        max_position_embeddings=131072,
        rope_parameters=parameters,
    )
    expected, factor = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")

    frequencies = read_rope({"rope_parameters": parameters}).frequencies(128)

    assert factor == 1.0
    torch.testing.assert_close(frequencies, expected)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "yarn", "factor": 2.0}, "'yarn' is not served; served: default, linear"),
        ({"rope_type": "linear"}, "factor must be a positive number"),
        ({"rope_type": "llama3", **LLAMA3, "low_freq_factor": 4.0}, "below high_freq_factor"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_type": "default", "rope_theta": "big"}, "rope_theta"),
    ],
)
def test_other_kinds_are_refused(scaling: dict[str, Any], message: str) -> None:
    """Rather an error than wrong positions."""
    with pytest.raises(CheckpointError, match=message):
        read_rope({"rope_parameters": scaling})
