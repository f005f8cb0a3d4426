"""Reading Llama checkpoints."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from swarm_protocol.errors import CheckpointError, UnsupportedModelError
from swarm_protocol.identifiers import BlockRange
from swarm_server.errors import BlockRangeError
from swarm_server.loading import load_span, open_model
from tests.harness.tiny_models import save_tiny_llama
from tests.unit.swarm_server.llama_models import save_llama


def load(directory: Path, blocks: str) -> None:
    load_span(open_model(str(directory)), BlockRange.parse(blocks), dtype=torch.float32)


def change_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(config))


def test_only_the_shards_of_the_wanted_blocks_are_read(tmp_path: Path) -> None:
    """With the other shards deleted, the blocks of the remaining ones still load."""
    save_tiny_llama(tmp_path, shard_size="150KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    wanted = {
        shard
        for name, shard in index["weight_map"].items()
        if name.startswith(("model.layers.2.", "model.layers.3."))
    }
    shards = set(index["weight_map"].values())
    assert wanted < shards
    for shard in shards - wanted:
        (tmp_path / shard).unlink()

    load(tmp_path, "2:4")

    with pytest.raises(CheckpointError, match="which is not there"):
        load(tmp_path, "0:1")


@pytest.mark.parametrize("name", ["self_attn.k_proj.weight", "post_attention_layernorm.weight"])
def test_every_parameter_must_be_there(name: str, tmp_path: Path) -> None:
    """A missing tensor is named."""
    save_llama(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors[f"model.layers.1.{name}"]
    save_file(tensors, tmp_path / "model.safetensors")

    with pytest.raises(CheckpointError, match=rf"has no tensor model\.layers\.1\.{name}"):
        load(tmp_path, "0:3")
    load(tmp_path, "2:3")


def test_biases_promised_by_the_config_must_be_there(tmp_path: Path) -> None:
    """`attention_bias` without bias tensors is no model."""
    save_llama(tmp_path)
    change_config(tmp_path, attention_bias=True)

    with pytest.raises(CheckpointError, match=r"q_proj\.bias"):
        load(tmp_path, "0:1")


def test_a_tensor_of_a_wrong_shape_is_named(tmp_path: Path) -> None:
    """Config and weights must agree."""
    save_llama(tmp_path)
    change_config(tmp_path, intermediate_size=64)

    with pytest.raises(CheckpointError, match=r"gate_proj\.weight must have shape \[64, 32\]"):
        load(tmp_path, "0:1")


@pytest.mark.parametrize("blocks", ["0:4", "3:4", "7:9"])
def test_blocks_outside_the_model_are_refused_with_its_size(blocks: str, tmp_path: Path) -> None:
    """The error says how many blocks there are."""
    save_llama(tmp_path)

    with pytest.raises(BlockRangeError, match=rf"blocks {blocks}: the model has 3 blocks"):
        load(tmp_path, blocks)


def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    """The error lists what is supported."""
    save_llama(tmp_path)
    change_config(tmp_path, model_type="mamba")

    with pytest.raises(UnsupportedModelError, match="'mamba' is not supported; supported: bloom, "):
        open_model(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not served; served: silu"),
        ({"hidden_size": 0}, "hidden_size must be a positive number, got 0"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers"),
        ({"num_hidden_layers": 5000}, "5000 blocks are over the limit"),
        ({"num_key_value_heads": 3}, "do not share 3 KV heads"),
        ({"head_dim": 7}, "heads of 7"),
        ({"rms_norm_eps": -1}, "rms_norm_eps"),
        ({"attention_bias": "yes"}, "attention_bias must be true or false"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
    ],
)
def test_a_bad_field_of_the_config_is_named(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """What the engine does not compute is refused before any weight is read."""
    save_llama(tmp_path)
    change_config(tmp_path, **changes)

    with pytest.raises(CheckpointError, match=message):
        open_model(str(tmp_path))


def test_fields_that_old_configs_lack_have_llamas_defaults(tmp_path: Path) -> None:
    """Heads are ungrouped, and head_dim follows from the hidden size."""
    save_llama(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for name in ("num_key_value_heads", "head_dim", "rms_norm_eps", "rope_parameters"):
        config.pop(name, None)
    path.write_text(json.dumps(config))

    shape = open_model(str(tmp_path)).shape

    assert (shape.num_kv_heads, shape.head_dim) == (4, 8)
