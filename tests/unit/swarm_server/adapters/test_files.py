"""Reading adapters: only what a block needs, and nothing that does not fit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from swarm_protocol.checkpoint import HubSettings
from swarm_protocol.errors import CheckpointError
from swarm_server.adapters import AdapterFiles, Layer, Module, adapter_name
from swarm_server.engine.adaptable_linear import BlockAdapter
from swarm_server.errors import AdapterError
from tests.harness.lora_adapters import CONFIG_FILE, WEIGHTS_FILE

LAYERS = {
    "qk": Layer((Module("attn.q", 4, 6), Module("attn.k", 2, 6))),
    "out": Layer((Module("attn.out", 6, 4),)),
}
SIZES = {module.name: module for layer in LAYERS.values() for module in layer.modules}
Q_IN_1 = "base_model.model.model.layers.1.attn.q.lora_{}.weight"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of rank 2 for `q` and `out` in two blocks, called `mine`."""
    directory = tmp_path / "mine"
    directory.mkdir()
    tensors = {}
    for block in range(2):
        for name in ("attn.q", "attn.out"):
            prefix = f"base_model.model.model.layers.{block}.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.full((2, SIZES[name].num_inputs), 1.0)
            tensors[f"{prefix}.lora_B.weight"] = torch.full((SIZES[name].num_outputs, 2), block + 1)
    save_file(tensors, directory / WEIGHTS_FILE)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 1, "target_modules": ["q", "out"]}
    (directory / CONFIG_FILE).write_text(json.dumps(config))
    return directory


def open_adapter(directory: Path) -> AdapterFiles:
    return AdapterFiles.open(str(directory), hub=HubSettings())


def read(directory: Path, block: int = 1) -> BlockAdapter:
    return open_adapter(directory).read_block(block, LAYERS, device="cpu")


def change_tensors(directory: Path, **tensors: torch.Tensor | None) -> None:
    """Replace tensors of `q` in block 1, or delete them, or add others."""
    changed = load_file(directory / WEIGHTS_FILE)
    for name, tensor in tensors.items():
        full = Q_IN_1.format(name) if len(name) == 1 else name
        changed.pop(full, None)
        if tensor is not None:
            changed[full] = tensor
    save_file(changed, directory / WEIGHTS_FILE)


def test_a_block_gets_its_own_matrices_with_the_scale_in_them(adapter: Path) -> None:
    """alpha / r is a half; B of block 1 is all twos, and A all ones."""
    weights = read(adapter, block=1)

    assert weights.keys() == {"qk", "out"}
    change = weights["qk"].up @ weights["qk"].down
    assert change.equal(torch.tensor([[2.0]] * 4 + [[0.0]] * 2).expand(6, 6))
    assert (weights["out"].up @ weights["out"].down).equal(torch.full((6, 4), 2.0))


def test_blocks_that_are_left_out_stay_as_they_are(adapter: Path) -> None:
    """With `layers_to_transform`, the others need no tensors."""
    config = json.loads((adapter / CONFIG_FILE).read_text())
    (adapter / CONFIG_FILE).write_text(json.dumps(config | {"layers_to_transform": [0, 1]}))

    assert read(adapter, block=2) == {}


def test_the_name_is_the_repositorys_or_the_last_part_of_a_path(tmp_path: Path) -> None:
    """Paths of this machine mean nothing to clients."""
    assert adapter_name(str(tmp_path)) == tmp_path.name
    assert adapter_name("organization/name") == "organization/name"


@pytest.mark.parametrize("side", ["A", "B"])
def test_both_matrices_of_a_target_are_needed(side: str, adapter: Path) -> None:
    """The error names the one that is missing, and of which module."""
    change_tensors(adapter, **{side: None})

    with pytest.raises(AdapterError, match=rf"no lora_{side} for model\.layers\.1\.attn\.q"):
        read(adapter)
    assert read(adapter, block=0).keys() == {"qk", "out"}


def test_a_target_without_any_tensor_is_missing_too(adapter: Path) -> None:
    """An adapter that half applies is worse than none."""
    change_tensors(adapter, A=None, B=None)

    with pytest.raises(AdapterError, match="no lora_A for"):
        read(adapter)


@pytest.mark.parametrize(("side", "shape"), [("A", (3, 6)), ("B", (5, 2))])
def test_shapes_must_fit_rank_and_model(side: str, shape: tuple[int, int], adapter: Path) -> None:
    """The error says what was expected and what came."""
    change_tensors(adapter, **{side: torch.zeros(shape)})

    with pytest.raises(AdapterError, match=r"attn\.q must have shapes \[2, 6\] and \[4, 2\], got"):
        read(adapter)


@pytest.mark.parametrize("side", ["A", "B"])
def test_values_that_are_not_finite_are_refused(side: str, adapter: Path) -> None:
    """They would poison every session that asks for the adapter."""
    shape = {"A": (2, 6), "B": (4, 2)}[side]
    change_tensors(adapter, **{side: torch.full(shape, float("nan"))})

    with pytest.raises(AdapterError, match=r"of attn\.q is not finite"):
        read(adapter)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("base_model.model.lm_head.lora_A.weight", "lm_head.* is not a LoRA matrix of a block"),
        ("model.layers.1.attn.q.weight", "is not a LoRA matrix of a block"),
        ("base_model.model.layers.1.attn.q.lora_A.weight", "weights for 2 lists of blocks"),
        ("base_model.model.model.layers.1.mlp.lora_A.weight", "adapts mlp, which is not served"),
        ("base_model.model.model.layers.1.attn.k.lora_A.weight", "but does not target it"),
    ],
)
def test_tensors_that_would_be_ignored_are_refused(name: str, message: str, adapter: Path) -> None:
    """Whoever asks for an adapter gets all of it."""
    change_tensors(adapter, **{name: torch.zeros(2, 6)})

    with pytest.raises(AdapterError, match=message):
        read(adapter)


def test_what_is_no_adapter_is_refused(adapter: Path, tmp_path: Path) -> None:
    """A pickle is not read, whatever it is called."""
    with pytest.raises(AdapterError, match=r"no adapter_config\.json"):
        open_adapter(tmp_path)
    with pytest.raises(CheckpointError, match="no directory"):
        open_adapter(tmp_path / "gone")
    (adapter / WEIGHTS_FILE).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(AdapterError, match="is damaged"):
        open_adapter(adapter)
    (adapter / WEIGHTS_FILE).rename(adapter / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"pickled \.bin files are not read"):
        open_adapter(adapter)
    (adapter / CONFIG_FILE).write_text("[]")
    (adapter / WEIGHTS_FILE).touch()
    with pytest.raises(AdapterError, match="not a JSON object"):
        open_adapter(adapter)
