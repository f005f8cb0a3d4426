"""Adapters on the linear layers of every family, fused and reordered as they are."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from swarm_protocol.checkpoint import HubSettings
from swarm_protocol.identifiers import BlockRange
from swarm_server.adapters import AdapterFiles, Module
from swarm_server.engine import Span
from swarm_server.loading import OpenModel, load_span, open_model
from swarm_server.loading.block_tensors import BlockTensors
from tests.harness.tiny_families import FAMILIES
from tests.unit.swarm_server.engine.paged_sequences import PagedSpan, Part

BLOCKS = BlockRange(1, 3)
RANK = 2


def linear_modules(model: OpenModel) -> dict[str, Module]:
    """Return the linear modules of some blocks, by their names in the model."""
    modules: dict[str, Module] = {}
    for index in range(BLOCKS.start, BLOCKS.end):
        prefix = f"{model.architecture.prefixes[0]}{index}."
        tensors = BlockTensors(model.checkpoint, [prefix], dtype=torch.float32, device="cpu")
        model.architecture.load_block(tensors, index)
        for layer in tensors.layers.values():
            modules |= {prefix + module.name: module for module in layer.modules}
    return modules


def save_adapter(directory: Path, modules: dict[str, Module]) -> dict[str, Tensor]:
    """Save a random adapter for all modules; return what each one adds to its weight."""
    directory.mkdir()
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    changes: dict[str, Tensor] = {}
    for name, module in modules.items():
        down = torch.randn(RANK, module.num_inputs, generator=generator) / 8
        up = torch.randn(module.num_outputs, RANK, generator=generator) / 8
        tensors[f"base_model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.{name}.lora_B.weight"] = up
        changes[name] = up @ down
    save_file(tensors, directory / "adapter_model.safetensors")
    targets = sorted({module.name for module in modules.values()})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": targets}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return changes


def run(span: Span, adapter: str | None) -> Tensor:
    """Return the outputs of one sequence, beside another that goes through the base."""
    hidden = torch.randn(2, 9, span.shape.hidden_size, generator=torch.Generator().manual_seed(1))
    paged = PagedSpan(span)
    plain, adapted = paged.new_sequence(), paged.new_sequence()
    outputs = []
    for chunk in torch.split(hidden, [7, 1, 1], 1):
        parts = Part(plain, chunk[0]), Part(adapted, chunk[1], adapter)
        outputs.append(torch.stack(paged.run(*parts)))
    return torch.cat(outputs, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_equals_merged_weights(family: str, tmp_path: Path) -> None:
    """With A and B for every linear module; a step without it computes the base."""
    directory = FAMILIES[family](tmp_path / "model")
    model = open_model(str(directory))
    changes = save_adapter(tmp_path / "some", linear_modules(model))
    adapters = [AdapterFiles.open(str(tmp_path / "some"), hub=HubSettings())]
    span = load_span(model, BLOCKS, dtype=torch.float32, adapters=adapters)
    base = run(load_span(model, BLOCKS, dtype=torch.float32), None)
    weights = load_file(directory / "model.safetensors")
    for name, change in changes.items():
        weights[f"{name}.weight"] += change
    save_file(weights, directory / "model.safetensors")
    merged = run(load_span(open_model(str(directory)), BLOCKS, dtype=torch.float32), None)

    adapted = run(span, "some")

    torch.testing.assert_close(adapted[1], merged[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(adapted[0], base[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(run(span, None), base, atol=1e-4, rtol=0)
    assert (adapted - base).abs().max() > 0.1
