"""Running a span: the same numbers as transformers, however a sequence is cut."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine import Span
from swarm_server.engine.span import Step
from tests.unit.swarm_server.llama_models import ReferenceLlama, load_all, save_llama

TOLERANCE = 1e-4  # float32 sums of a few dozen products, in another order than transformers'

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "ungrouped": {"num_key_value_heads": 4},
    "one_kv_head": {"num_key_value_heads": 1},
    "wide_heads": {"head_dim": 24},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "llama3": {"rope_parameters": LLAMA3},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}},
    "eps": {"rms_norm_eps": 1e-2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Span, ReferenceLlama]:
    directory = tmp_path_factory.mktemp("llama")
    reference = save_llama(directory)
    return load_all(directory), reference


def hidden_states(batch: int, num_tokens: int) -> Tensor:
    return torch.randn(batch, num_tokens, 32, generator=torch.Generator().manual_seed(1))


def run_in_chunks(span: Span, hidden: Tensor, sizes: list[int]) -> Tensor:
    kv = span.new_kv(span.blocks, batch_size=len(hidden), max_length=hidden.shape[1])
    chunks = torch.split(hidden, sizes, dim=1)
    return torch.cat([span.run(span.blocks, kv, Step(chunk)) for chunk in chunks], 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_of_config_equals_transformers(variant: str, tmp_path: Path) -> None:
    """Prefill, a chunk over the prefix and single tokens give transformers' hidden states."""
    reference = save_llama(tmp_path, **VARIANTS[variant])
    hidden = hidden_states(2, 12)

    outputs = run_in_chunks(load_all(tmp_path), hidden, [5, 4, 1, 1, 1])

    torch.testing.assert_close(outputs, reference.run(hidden), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("sizes", [[70], [1] * 70, [64, 6], [1, 69], [3, 65, 2]])
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_do_not_depend_on_the_cut(
    model: tuple[Span, ReferenceLlama], sizes: list[int], batch: int
) -> None:
    """In one piece, in chunks across the growth of the cache, or token by token."""
    span, reference = model
    hidden = hidden_states(batch, 70)

    outputs = run_in_chunks(span, hidden, sizes)

    torch.testing.assert_close(outputs, reference.run(hidden), atol=TOLERANCE, rtol=0)


def test_bfloat16_stays_near_float32(tmp_path: Path) -> None:
    """The same weights in bfloat16 differ by its rounding, not more."""
    reference = save_llama(tmp_path)
    hidden = hidden_states(1, 9)

    outputs = run_in_chunks(load_all(tmp_path, torch.bfloat16), hidden, [6, 1, 1, 1])

    assert outputs.dtype == torch.bfloat16
    expected = reference.run(hidden)
    # 8 bits of mantissa, some thirty roundings on the way through three blocks.
    assert (outputs.float() - expected).abs().max() < 0.03 * expected.abs().max()


def test_blocks_may_be_run_apart(model: tuple[Span, ReferenceLlama]) -> None:
    """A session over the first two blocks, then one over the last, equal one over all."""
    span, reference = model
    hidden = hidden_states(1, 6)
    first, last = BlockRange(0, 2), BlockRange(2, 3)

    middle = span.run(first, span.new_kv(first, batch_size=1, max_length=6), Step(hidden))
    outputs = span.run(last, span.new_kv(last, batch_size=1, max_length=6), Step(middle))

    torch.testing.assert_close(outputs, reference.run(hidden), atol=TOLERANCE, rtol=0)


def test_deep_prompts_are_added_before_each_block(model: tuple[Span, ReferenceLlama]) -> None:
    """Prompt i joins the first tokens before block i; the caller's tensor stays as it was."""
    span, _ = model
    hidden = hidden_states(2, 5)
    prompts = torch.randn(3, 1, 2, 32, generator=torch.Generator().manual_seed(2))
    given = hidden.clone()
    expected = hidden.clone()
    for index in range(3):
        expected[:, :2] += prompts[index]
        alone = BlockRange(index, index + 1)
        kv = span.new_kv(alone, batch_size=2, max_length=5)
        expected = span.run(alone, kv, Step(expected)).clone()

    kv = span.new_kv(span.blocks, batch_size=2, max_length=5)
    outputs = span.run(span.blocks, kv, Step(hidden, prompts=prompts))

    torch.testing.assert_close(outputs, expected)
    assert torch.equal(hidden, given)


def test_hypo_ids_reorder_rows(model: tuple[Span, ReferenceLlama]) -> None:
    """After [1, 1, 0] the rows continue what rows 1, 1 and 0 have been."""
    span, reference = model
    hidden, following = hidden_states(3, 6), hidden_states(3, 7)[:, 6:]
    order = torch.tensor([1, 1, 0])
    kv = span.new_kv(span.blocks, batch_size=3, max_length=8)
    span.run(span.blocks, kv, Step(hidden))

    outputs = span.run(span.blocks, kv, Step(following, hypo_ids=order))

    expected = reference.run(torch.cat((hidden[order], following), 1))[:, 6:]
    torch.testing.assert_close(outputs, expected, atol=TOLERANCE, rtol=0)


def test_truncation_rolls_back(model: tuple[Span, ReferenceLlama]) -> None:
    """A session cut back to three tokens goes on as if the rest had never been."""
    span, reference = model
    hidden, other = hidden_states(1, 8), hidden_states(2, 9)[1:, 3:8]
    kv = span.new_kv(span.blocks, batch_size=1, max_length=8)
    span.run(span.blocks, kv, Step(hidden))

    kv.truncate(3)
    outputs = span.run(span.blocks, kv, Step(other))

    expected = reference.run(torch.cat((hidden[:, :3], other), 1))[:, 3:]
    torch.testing.assert_close(outputs, expected, atol=TOLERANCE, rtol=0)


def test_no_tokens_cost_nothing(model: tuple[Span, ReferenceLlama]) -> None:
    """A step without tokens returns as much and allocates nothing."""
    span, _ = model
    kv = span.new_kv(span.blocks, batch_size=2, max_length=8)

    outputs = span.run(span.blocks, kv, Step(torch.empty(2, 0, 32)))

    assert outputs.shape == (2, 0, 32)
    assert kv.capacity == kv.position == 0


def test_not_a_number_stays_in_its_row(model: tuple[Span, ReferenceLlama]) -> None:
    """A poisoned row leaves the other rows of the batch alone."""
    span, reference = model
    hidden = hidden_states(2, 4)
    poisoned = hidden.clone()
    poisoned[0, 1] = torch.nan

    outputs = run_in_chunks(span, poisoned, [3, 1])

    assert outputs[0, 1:].isnan().all()
    torch.testing.assert_close(outputs[1], reference.run(hidden)[1], atol=TOLERANCE, rtol=0)
