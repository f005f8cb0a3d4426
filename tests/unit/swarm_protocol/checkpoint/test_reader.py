import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from swarm_protocol.checkpoint import Checkpoint, choose_dtype, leaves_choice
from swarm_protocol.errors import CheckpointError

A, B = torch.arange(4.0), torch.arange(6, dtype=torch.int64)


def save_model(directory: Path, config: object = None) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config or {"model_type": "llama"}))
    return directory


@pytest.fixture
def single(tmp_path: Path) -> Path:
    directory = save_model(tmp_path / "single")
    save_file({"a": A, "b": B}, directory / "model.safetensors")
    return directory


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    directory = save_model(tmp_path / "sharded")
    save_file({"a": A}, directory / "one.safetensors")
    save_file({"b": B}, directory / "two.safetensors")
    write_index(directory, {"a": "one.safetensors", "b": "two.safetensors"})
    return directory


def write_index(directory: Path, weight_map: object) -> None:
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))


def test_single_file_and_shards_give_the_same_tensors(single: Path, sharded: Path) -> None:
    """An index is a way to say where a tensor is, nothing else."""
    for directory in (single, sharded):
        tensors = Checkpoint.open(str(directory)).load(["a", "b"])

        assert torch.equal(tensors["a"], A)
        assert torch.equal(tensors["b"], B)


def test_only_the_shards_that_hold_the_tensors_are_opened(sharded: Path) -> None:
    """A server of a few blocks must not need the files of the others."""
    (sharded / "two.safetensors").unlink()

    assert torch.equal(Checkpoint.open(str(sharded)).load(["a"])["a"], A)


def test_floats_are_cast_and_integers_kept(single: Path) -> None:
    """`dtype` is the one to compute in; ids and tables stay integers."""
    tensors = Checkpoint.open(str(single)).load(["a", "b"], torch.bfloat16)

    assert (tensors["a"].dtype, tensors["b"].dtype) == (torch.bfloat16, torch.int64)


def test_loaded_tensors_outlive_the_file(single: Path) -> None:
    """They have memory of their own, so a file may be replaced under a running server."""
    tensors = Checkpoint.open(str(single)).load(["a"])
    save_file({"a": torch.zeros(4)}, single / "model.safetensors")

    assert torch.equal(tensors["a"], A)
    assert not torch.equal(load_file(single / "model.safetensors")["a"], A)


def test_config_facts_are_read(tmp_path: Path) -> None:
    """The dtype has an old and a new name."""
    new = save_model(tmp_path / "new", {"model_type": "llama", "dtype": "bfloat16"})
    old = save_model(tmp_path / "old", {"torch_dtype": "float16"})

    assert (Checkpoint.open(str(new)).model_type, Checkpoint.open(str(old)).model_type) == (
        "llama",
        "",
    )
    assert Checkpoint.open(str(new)).dtype_name == "bfloat16"
    assert Checkpoint.open(str(old)).dtype_name == "float16"


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "nowhere", "a/b/c", "~x/y"])
def test_missing_directory_gives_one_clear_sentence(source: str) -> None:
    """What looks like a path is never looked up on a hub."""
    with pytest.raises(CheckpointError, match="no directory"):
        Checkpoint.open(source)


def test_directory_without_config_is_no_model(tmp_path: Path) -> None:
    """The sentence says what is missing."""
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        Checkpoint.open(str(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\xff"])
def test_broken_config_is_refused(tmp_path: Path, text: str) -> None:
    """A config must be a JSON object."""
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))

    with pytest.raises(CheckpointError, match=r"config\.json"):
        Checkpoint.open(str(tmp_path))


def test_missing_tensor_is_named(single: Path) -> None:
    """Whoever reads the sentence can look for it."""
    with pytest.raises(CheckpointError, match="no tensor c"):
        Checkpoint.open(str(single)).load(["c"])


def test_missing_weights_and_missing_shard_are_named(tmp_path: Path, sharded: Path) -> None:
    """Pickled files are not an alternative."""
    with pytest.raises(CheckpointError, match=r"no weights as safetensors; pickled \.bin"):
        Checkpoint.open(str(save_model(tmp_path / "empty"))).load(["a"])

    (sharded / "one.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"shard one\.safetensors, which is not there"):
        Checkpoint.open(str(sharded)).load(["a"])


def test_damaged_shard_is_an_error_of_the_checkpoint(sharded: Path) -> None:
    """A half-finished copy is a common accident."""
    data = (sharded / "one.safetensors").read_bytes()
    (sharded / "one.safetensors").write_bytes(data[:-3])

    with pytest.raises(CheckpointError, match="is damaged"):
        Checkpoint.open(str(sharded)).load(["a"])


@pytest.mark.parametrize(
    "weight_map",
    [
        None,
        [],
        {"a": 7},
        {"a": "../one.safetensors"},
        {"a": "/etc/one.safetensors"},
        {"a": "one.bin"},
    ],
)
def test_index_may_only_name_safetensors_files_beside_it(sharded: Path, weight_map: object) -> None:
    """An index is input from outside."""
    write_index(sharded, weight_map)

    with pytest.raises(CheckpointError, match="does not map tensors to files"):
        Checkpoint.open(str(sharded)).load(["a"])


def test_tokenizer_directory_is_where_its_files_are(single: Path) -> None:
    """Without any there is a clear sentence."""
    with pytest.raises(CheckpointError, match="no tokenizer"):
        Checkpoint.open(str(single)).tokenizer_directory()

    (single / "tokenizer.json").write_text("{}")
    assert Checkpoint.open(str(single)).tokenizer_directory() == single


@pytest.mark.parametrize(
    ("name", "stored", "device", "expected"),
    [
        ("float32", "bfloat16", "cpu", torch.float32),
        ("bfloat16", "float32", "cpu", torch.bfloat16),
        ("float16", None, "cuda", torch.float16),
        ("auto", None, "cpu", torch.float32),
        ("auto", "float32", "cpu", torch.float32),
        ("auto", "bfloat16", "cuda", torch.bfloat16),
        ("auto", "float64", "cuda", torch.float32),
    ],
)
def test_dtype_is_the_asked_one_or_the_checkpoints(
    name: str, stored: str | None, device: str, expected: torch.dtype
) -> None:
    """`auto` follows the checkpoint; what a 16-bit one becomes on a CPU depends on the CPU."""
    assert choose_dtype(name, stored, device) == expected


@pytest.mark.parametrize(
    ("name", "stored", "device", "is_open"),
    [
        ("auto", "bfloat16", "cpu", True),
        ("auto", "float16", "cpu", True),
        ("auto", "float32", "cpu", False),
        ("auto", None, "cpu", False),
        ("auto", "bfloat16", "cuda", False),
        ("float32", "bfloat16", "cpu", False),
    ],
)
def test_a_cpu_has_the_choice_for_16_bits(
    name: str, stored: str | None, device: str, is_open: bool
) -> None:
    """Where nobody else has made it."""
    assert leaves_choice(name, stored, device) == is_open


@pytest.mark.parametrize(("name", "sentence"), [("int8", "unknown dtype"), ("float16", "too slow")])
def test_dtype_that_makes_no_sense_is_refused(name: str, sentence: str) -> None:
    """The sentence says what to use instead."""
    with pytest.raises(CheckpointError, match=sentence):
        choose_dtype(name, None, "cpu")
