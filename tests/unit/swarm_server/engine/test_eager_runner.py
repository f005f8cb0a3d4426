"""Ragged batches through a span: the same numbers as transformers, whatever goes together."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swarm_kernels.product_choice import chosen_product
from swarm_protocol.identifiers import BlockRange
from swarm_server.engine import Span
from swarm_server.engine.kernels import load_attention_kernel
from tests.harness.tiny_families import FAMILIES, save_tiny_family
from tests.unit.swarm_server.engine.paged_sequences import PagedSpan, Part, run_in_chunks
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
    """In one piece, in chunks across many pages, or token by token."""
    span, reference = model
    hidden = hidden_states(batch, 70)

    outputs = run_in_chunks(span, hidden, sizes)

    # Outputs go up to 17; float32 has 6e-8 of that for each of the roundings of three blocks.
    torch.testing.assert_close(outputs, reference.run(hidden), atol=TOLERANCE, rtol=1e-5)


def test_bfloat16_stays_near_float32(tmp_path: Path) -> None:
    """The same weights in bfloat16 differ by its rounding, not more."""
    reference = save_llama(tmp_path)
    hidden = hidden_states(1, 9)

    outputs = run_in_chunks(load_all(tmp_path, torch.bfloat16), hidden, [6, 1, 1, 1])

    assert outputs.dtype == torch.bfloat16
    expected = reference.run(hidden)
    # 8 bits of mantissa, some thirty roundings on the way through three blocks.
    assert (outputs.float() - expected).abs().max() < 0.03 * expected.abs().max()


def test_a_bfloat16_chunk_comes_out_as_its_tokens_do_alone(tmp_path: Path) -> None:
    """To the last bit: a server that replaces a lost one computes the same keys and values."""
    if load_attention_kernel() is None or chosen_product() is None:
        pytest.skip("no C compiler here, or oneDNN's products are faster")
    save_llama(tmp_path)
    span = load_all(tmp_path, torch.bfloat16)
    hidden = hidden_states(1, 40)[0].bfloat16()

    together, alone = PagedSpan(span), PagedSpan(span)
    (chunk,) = together.run(Part(together.new_sequence(), hidden))
    sequence = alone.new_sequence()
    tokens = torch.cat([alone.run(Part(sequence, token[None]))[0] for token in hidden])

    assert torch.equal(chunk, tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_that_are_not_wanted_are_left_out_without_a_trace(
    family: str, tmp_path: Path
) -> None:
    """To the last bit, where products are our own: of those that are wanted, and of what follows.

    A window would hide what is not finite from the last token.
    """
    save_tiny_family(family, tmp_path)
    span = load_all(tmp_path, torch.bfloat16)
    hidden = torch.randn(14, span.shape.hidden_size).bfloat16()
    wanted = [8, 9, 10, 11, 12]  # the last of a prompt, all of another one
    whole, partial = PagedSpan(span), PagedSpan(span)
    sequences = [(paged.new_sequence(), paged.new_sequence()) for paged in (whole, partial)]
    parts = [[Part(one, hidden[:9]), Part(two, hidden[9:13])] for one, two in sequences]

    expected = torch.cat(whole.run(*parts[0]))
    outputs = partial.run_wanted(wanted, *parts[1])

    is_left_out = chosen_product() is not None and span.windows[-1] is None
    assert torch.equal(outputs, expected[wanted] if is_left_out else expected)
    (following,) = whole.run(Part(sequences[0][0], hidden[13:]))
    assert torch.equal(partial.run(Part(sequences[1][0], hidden[13:]))[0], following)


def test_a_token_that_is_not_finite_shows_in_the_last_one(tmp_path: Path) -> None:
    """Whose outputs are the only ones that are looked at."""
    save_llama(tmp_path)
    paged = PagedSpan(load_all(tmp_path, torch.bfloat16))
    hidden = hidden_states(1, 9)[0].bfloat16()
    hidden[2, 3] = torch.inf

    outputs = paged.run_wanted([8], Part(paged.new_sequence(), hidden))

    assert not outputs[-1].isfinite().any()


def test_blocks_may_be_run_apart(model: tuple[Span, ReferenceLlama]) -> None:
    """The first two blocks, then the last, equal all."""
    span, reference = model
    hidden = hidden_states(1, 6)

    middle = run_in_chunks(span, hidden, [6], blocks=BlockRange(0, 2))
    outputs = run_in_chunks(span, middle, [6], blocks=BlockRange(2, 3))

    torch.testing.assert_close(outputs, reference.run(hidden), atol=TOLERANCE, rtol=0)


def test_deep_prompts_are_added_before_each_block(model: tuple[Span, ReferenceLlama]) -> None:
    """Those of one segment join its first tokens; its neighbour and the given tensors stay."""
    span, reference = model
    hidden, prompts = hidden_states(2, 5), hidden_states(3, 2)
    given = hidden.clone()
    expected = hidden[:1]
    for index in range(3):
        prompted = torch.cat((expected[:, :2] + prompts[index], expected[:, 2:]), 1)
        expected = run_in_chunks(span, prompted, [5], blocks=BlockRange(index, index + 1))
    paged = PagedSpan(span)

    plain, outputs = paged.run(
        Part(paged.new_sequence(), hidden[1]),
        Part(paged.new_sequence(), hidden[0], prompts=prompts),
    )

    torch.testing.assert_close(outputs, expected[0])
    torch.testing.assert_close(plain, reference.run(hidden)[1], atol=TOLERANCE, rtol=0)
    assert torch.equal(hidden, given)


def test_a_fork_goes_its_own_way(model: tuple[Span, ReferenceLlama]) -> None:
    """A beam continues a shared, partly filled page; the original is not disturbed."""
    span, reference = model
    hidden, other = hidden_states(1, 8)[0], hidden_states(2, 8)[1]
    paged = PagedSpan(span)
    first = paged.new_sequence()
    paged.run(Part(first, hidden[:6]))
    second = first.fork()

    outputs = paged.run(Part(first, hidden[6:]), Part(second, other[6:]))

    forked = torch.stack((hidden, torch.cat((hidden[:6], other[6:]))))
    expected = reference.run(forked)[:, 6:]
    torch.testing.assert_close(torch.stack(outputs), expected, atol=TOLERANCE, rtol=0)


def test_truncation_rolls_back(model: tuple[Span, ReferenceLlama]) -> None:
    """A sequence cut back to three tokens goes on as if the rest had never been."""
    span, reference = model
    hidden, other = hidden_states(1, 8)[0], hidden_states(2, 8)[1, 3:]
    paged = PagedSpan(span)
    sequence = paged.new_sequence()
    paged.run(Part(sequence, hidden))

    sequence.truncate(3)
    (outputs,) = paged.run(Part(sequence, other))

    expected = reference.run(torch.cat((hidden[:3], other))[None])[0, 3:]
    torch.testing.assert_close(outputs, expected, atol=TOLERANCE, rtol=0)


def test_not_a_number_stays_in_its_sequence(model: tuple[Span, ReferenceLlama]) -> None:
    """A poisoned row leaves the other rows of its batches alone."""
    span, reference = model
    hidden = hidden_states(2, 4)
    poisoned = hidden.clone()
    poisoned[0, 1] = torch.nan

    outputs = run_in_chunks(span, poisoned, [3, 1])

    assert outputs[0, 1:].isnan().all()
    torch.testing.assert_close(outputs[1], reference.run(hidden)[1], atol=TOLERANCE, rtol=0)
