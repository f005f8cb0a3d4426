"""The layouts in which one and the same model is stored."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from swarm_protocol.identifiers import BlockRange
from swarm_server.loading import load_span, open_model
from swarm_server.loading.fused_qkv import fused_qkv_order
from tests.harness.tiny_families import save_tiny_family
from tests.unit.swarm_server.engine.paged_sequences import run_in_chunks


def outputs_of(directory: Path) -> Tensor:
    model = open_model(str(directory))
    span = load_span(model, BlockRange(0, 4), dtype=torch.float32)
    hidden = torch.randn(1, 6, span.shape.hidden_size, generator=torch.Generator().manual_seed(1))
    return run_in_chunks(span, hidden, [6])


def assert_same(outputs: Tensor, expected: Tensor) -> None:
    """Products are summed in another order where a weight is aligned otherwise in memory."""
    torch.testing.assert_close(outputs, expected, atol=1e-4, rtol=0)


def test_mixtrals_experts_may_be_stacked(tmp_path: Path) -> None:
    """One module per expert, as on the hub, and one tensor for all, as in transformers' memory."""
    modules = save_tiny_family("mixtral", tmp_path / "modules")
    model = AutoModelForCausalLM.from_pretrained(modules)

    model.save_pretrained(tmp_path / "stacked", save_original_format=False)

    names = load_file(tmp_path / "stacked" / "model.safetensors")
    assert "model.layers.0.mlp.experts.gate_up_proj" in names
    assert_same(outputs_of(tmp_path / "stacked"), outputs_of(modules))


def test_blooms_blocks_may_be_named_without_the_models_prefix(tmp_path: Path) -> None:
    """The checkpoints on the hub were saved from the bare model."""
    save_tiny_family("bloom", tmp_path)
    expected = outputs_of(tmp_path)
    path = tmp_path / "model.safetensors"

    tensors = load_file(path)
    save_file({name.removeprefix("transformer."): tensors[name] for name in tensors}, path)

    assert_same(outputs_of(tmp_path), expected)


def test_a_fused_weight_is_brought_into_the_order_queries_keys_values() -> None:
    """Two groups of two query heads, one key head and one value head, of two outputs each."""
    order = fused_qkv_order(num_heads=4, num_kv_heads=2, head_dim=2)

    queries, keys, values = order[:8].tolist(), order[8:12].tolist(), order[12:].tolist()
    assert queries == [0, 1, 2, 3, 8, 9, 10, 11]
    assert keys == [4, 5, 12, 13]
    assert values == [6, 7, 14, 15]
