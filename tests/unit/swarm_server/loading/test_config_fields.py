"""Configs of every family: what is refused, and old and new names of fields."""

import json
from pathlib import Path
from typing import Any

import pytest

from swarm_protocol.errors import CheckpointError
from swarm_server.engine.rope import LinearScaling, Rope
from swarm_server.loading import open_model
from swarm_server.loading.config import read_sliding_blocks, read_window
from swarm_server.loading.gemma3 import read_ropes
from tests.harness.tiny_families import tiny_family_config


def write_config(directory: Path, name: str, **changes: Any) -> None:
    config = tiny_family_config(name).to_diff_dict() | changes
    (directory / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("bloom", {"n_head": 5}, "5 heads do not share a hidden_size of 48"),
        ("bloom", {"n_layer": 0, "num_hidden_layers": 0}, "n_layer must be a positive number"),
        ("bloom", {"apply_residual_connection_post_layernorm": 1}, "must be true or false"),
        ("falcon-7b", {"activation": "relu"}, "activation 'relu' is not served"),
        ("falcon-7b", {"num_attention_heads": 5}, "5 heads and 1 KV heads do not share"),
        ("falcon-7b", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn 2 is not served"),
        ("falcon-40b", {"parallel_attn": False}, "with parallel_attn False"),
        ("falcon-40b", {"num_ln_in_parallel_attn": 3}, "num_ln_in_parallel_attn 3"),
        ("falcon-40b", {"num_kv_heads": 3}, "4 heads and 3 KV heads"),
        ("falcon-40b", {"rope_parameters": {"rope_type": "yarn"}}, "rope type 'yarn'"),
        ("mixtral", {"num_experts_per_tok": 5}, "num_experts_per_tok 5 of 4 experts"),
        ("mixtral", {"num_local_experts": "4"}, "num_local_experts must be a positive number"),
        ("qwen3", {"layer_types": ["full_attention"]}, "layer_types must name 4 blocks"),
        ("qwen3", {"layer_types": ["linear_attention"] * 4}, "type 'linear_attention' is not"),
        ("qwen3", {"max_window_layers": -1}, "max_window_layers must be a number from 0 on"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is not served"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention is not"),
        ("gemma3", {"rope_parameters": 3}, "rope_parameters must be an object"),
        ("mistral", {"sliding_window": 0}, "sliding_window must be a positive number"),
        ("mistral", {"quantization_config": {"bits": 4}}, "quantized"),
    ],
)
def test_what_the_engine_does_not_compute_is_refused_by_field(
    family: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Before any weight is read."""
    write_config(tmp_path, family, **changes)

    with pytest.raises(CheckpointError, match=message):
        open_model(str(tmp_path))


def test_bloom_is_read_under_the_names_of_its_first_release(tmp_path: Path) -> None:
    """`n_embed` and `num_attention_heads`, as in the configs on the hub."""
    config = {"model_type": "bloom", "n_embed": 96, "n_layer": 2, "num_attention_heads": 6}
    (tmp_path / "config.json").write_text(json.dumps(config))

    model = open_model(str(tmp_path))

    assert model.num_blocks == 2
    assert (model.shape.hidden_size, model.shape.num_kv_heads, model.shape.head_dim) == (96, 6, 16)


def test_a_window_is_the_familys_unless_the_config_says_null() -> None:
    """Absent is not null."""
    assert read_window({}, 4096) == 4096
    assert read_window({"sliding_window": None}, 4096) is None
    assert read_window({"sliding_window": 7}, 4096) == 7
    assert read_window({}) is None


def test_layer_types_win_over_the_familys_pattern() -> None:
    """The list in a config is what transformers follows."""
    types = ["full_attention", "sliding_attention"]

    assert read_sliding_blocks({"layer_types": types}, [True, False]) == [False, True]
    assert read_sliding_blocks({}, [True, False]) == [True, False]


def test_gemma3_has_a_rope_for_each_kind_of_block_in_old_configs_too() -> None:
    """Scaling is for global blocks only, and the local base has a field of its own."""
    config = {
        "rope_theta": 2e6,
        "rope_local_base_freq": 500.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }

    assert read_ropes(config) == (Rope(500.0), Rope(2e6, LinearScaling(8.0)))
    assert read_ropes({}) == (Rope(1e4), Rope(1e6))
