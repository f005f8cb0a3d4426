"""Every family: the same numbers as transformers' own blocks, however a sequence is cut."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine import Span, training
from swarm_server.loading import load_span, open_model
from tests.harness.tiny_families import FAMILIES, save_tiny_family
from tests.unit.swarm_server.engine.paged_sequences import PagedSpan, Part, run_in_chunks

TOLERANCE: Final = 1e-4  # float32 sums of some dozen products, in another order

NUM_TOKENS: Final = 17  # several times the windows of the tiny models

MIXED_BATCHES: Final = (
    {0: 7},
    {0: 1, 1: 5},
    {2: 4, 0: 1, 1: 11},
    {0: 3, 1: 1, 2: 1},
    {2: 12, 0: 5},
)
"""How many tokens of which sequence go together: in all, `NUM_TOKENS` of each of three."""

VARIANTS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = MappingProxyType(
    {
        "bloom, normed residual": ("bloom", {"apply_residual_connection_post_layernorm": True}),
        "bloom, 8 heads": ("bloom", {"num_attention_heads": 8}),
        "falcon-7b, biases": ("falcon-7b", {"bias": True}),
        "falcon-7b, alibi": ("falcon-7b", {"alibi": True}),
        "falcon-7b, own inner size": ("falcon-7b", {"ffn_hidden_size": 80}),
        "falcon-40b, biases": ("falcon-40b", {"bias": True}),
        "falcon-40b, alibi": ("falcon-40b", {"alibi": True}),
        "falcon-rw, rotary": ("falcon-rw", {"alibi": False}),
        "mixtral, window": ("mixtral", {"sliding_window": 4}),
        "mixtral, one expert": ("mixtral", {"num_experts_per_tok": 1}),
        "qwen3, biases": ("qwen3", {"attention_bias": True}),
        "gemma3, biases": ("gemma3", {"attention_bias": True}),
        "gemma3, pattern": ("gemma3", {"layer_types": None, "sliding_window_pattern": 3}),
        "mistral, no window": ("mistral", {"sliding_window": None}),
        "mistral, window of one": ("mistral", {"sliding_window": 1}),
    }
)


def load_all(directory: Path, dtype: torch.dtype = torch.float32) -> Span:
    model = open_model(str(directory))
    return load_span(model, BlockRange(0, model.num_blocks), dtype=dtype)


def hidden_states(span: Span, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, NUM_TOKENS, span.shape.hidden_size, generator=generator)


def mean_error(outputs: Tensor, expected: Tensor) -> float:
    return (outputs.float() - expected).abs().mean().item()


class Reference:
    """transformers' blocks of a saved model, without its embeddings and last norm."""

    def __init__(self, directory: Path, dtype: torch.dtype = torch.float32) -> None:
        self._trunk = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).base_model
        for name in ("norm", "ln_f", "word_embeddings_layernorm"):
            if hasattr(self._trunk, name):
                setattr(self._trunk, name, torch.nn.Identity())

    def run(self, hidden: Tensor) -> Tensor:
        """Return the hidden states after all blocks, in one piece; differentiable."""
        output: Tensor = self._trunk(inputs_embeds=hidden, use_cache=False).last_hidden_state
        return output


@pytest.fixture(scope="module", params=FAMILIES)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Span, Reference]:
    directory = FAMILIES[request.param](tmp_path_factory.mktemp(request.param))
    return directory, load_all(directory), Reference(directory)


@pytest.mark.parametrize("sizes", [[17], [1] * 17, [4, 7, 6], [1, 16], [12, 1, 1, 1, 2]])
@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_outputs_equal_transformers_however_they_are_cut(
    family: tuple[Path, Span, Reference], sizes: list[int], batch: int
) -> None:
    """In one piece, in chunks, and token by token, across the edges of windows."""
    _, span, reference = family
    hidden = hidden_states(span, batch)

    outputs = run_in_chunks(span, hidden, sizes)

    torch.testing.assert_close(outputs, reference.run(hidden), atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_torch_alone_equals_transformers_as_well(family: tuple[Path, Span, Reference]) -> None:
    """Where there is no compiler for the kernel."""
    _, span, reference = family
    hidden = hidden_states(span, 2)

    outputs = run_in_chunks(span, hidden, [11, 1, 1, 3, 1], has_kernel=False)

    torch.testing.assert_close(outputs, reference.run(hidden), atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_sequences_do_not_notice_each_other(family: tuple[Path, Span, Reference]) -> None:
    """Chunks and single tokens of three sequences that come and go, in the same batches."""
    _, span, reference = family
    hidden, paged = hidden_states(span, 3), PagedSpan(span)
    sequences = [paged.new_sequence() for _ in hidden]
    outputs: list[list[Tensor]] = [[] for _ in hidden]

    for batch in MIXED_BATCHES:
        parts = []
        for row, num_tokens in batch.items():
            start = sequences[row].length
            parts.append(Part(sequences[row], hidden[row, start : start + num_tokens]))
        for row, output in zip(batch, paged.run(*parts), strict=True):
            outputs[row].append(output)

    for row, expected in enumerate(reference.run(hidden)):
        torch.testing.assert_close(torch.cat(outputs[row]), expected, atol=TOLERANCE, rtol=0)


def greedy_tokens(span: Span, prompts: list[Tensor], num_tokens: int) -> Tensor:
    """Continue all prompts in the same batches, with random embeddings: [batch, num_tokens]."""
    generator = torch.Generator().manual_seed(5)
    embeddings = torch.randn(64, span.shape.hidden_size, generator=generator)
    paged = PagedSpan(span)
    sequences = [paged.new_sequence() for _ in prompts]
    hidden, tokens = prompts, list[Tensor]()
    for _ in range(num_tokens):
        parts = zip(sequences, hidden, strict=True)
        outputs = paged.run(*[Part(*part) for part in parts])
        chosen = torch.stack([output[-1] @ embeddings.T for output in outputs]).argmax(1)
        hidden = [embeddings[None, token] for token in chosen]
        tokens.append(chosen)
    return torch.stack(tokens, 1)


def test_greedy_tokens_do_not_depend_on_the_batch(family: tuple[Path, Span, Reference]) -> None:
    """In float32, five sequences of different lengths choose what each chooses alone."""
    _, span, _ = family
    generator = torch.Generator().manual_seed(2)
    size = span.shape.hidden_size
    prompts = [torch.randn(length, size, generator=generator) for length in (1, 3, 9, 14, 2)]

    together = greedy_tokens(span, prompts, 20)

    alone = torch.cat([greedy_tokens(span, [prompt], 20) for prompt in prompts])
    assert together.equal(alone)


@torch.no_grad()
def test_bfloat16_is_as_near_to_float32_as_transformers(
    family: tuple[Path, Span, Reference],
) -> None:
    """The same weights in bfloat16 err by its rounding, as they do in transformers."""
    directory, span, reference = family
    hidden = hidden_states(span, 1)
    exact = reference.run(hidden)

    outputs = run_in_chunks(load_all(directory, torch.bfloat16), hidden, [12, 1, 1, 3])

    assert outputs.dtype == torch.bfloat16
    theirs = Reference(directory, torch.bfloat16).run(hidden.bfloat16())
    assert mean_error(outputs, exact) < 1.5 * mean_error(theirs, exact)


def test_gradients_equal_transformers(family: tuple[Path, Span, Reference]) -> None:
    """A backward pass over a whole sequence, after inference has filled the tables."""
    _, span, reference = family
    hidden = hidden_states(span, 2)
    grad_outputs = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2))
    run_in_chunks(span, hidden, [NUM_TOKENS])

    gradient, _ = training.backward(span, span.blocks, hidden, grad_outputs)

    (expected,) = torch.autograd.grad(reference.run(hidden.requires_grad_()), hidden, grad_outputs)
    scale = expected.abs().max().item()
    torch.testing.assert_close(gradient, expected, atol=TOLERANCE * max(1.0, scale), rtol=0)


@torch.no_grad()
def test_nothing_but_the_wanted_block_is_read(family: tuple[Path, Span, Reference]) -> None:
    """Every block can be loaded from a file that holds its tensors and no others."""
    directory, span, _ = family
    tensors = load_file(directory / "model.safetensors")
    blocks = BlockRange(2, 3)

    save_file(
        {name: tensor for name, tensor in tensors.items() if ".2." in name.split("experts")[0]},
        directory / "model.safetensors",
    )
    try:
        alone = load_span(open_model(str(directory)), blocks, dtype=torch.float32)
    finally:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})

    hidden = hidden_states(span, 1)
    outputs = run_in_chunks(alone, hidden, [NUM_TOKENS])
    expected = run_in_chunks(span, hidden, [NUM_TOKENS], blocks=blocks)
    torch.testing.assert_close(outputs, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_every_variant_of_config_equals_transformers(variant: str, tmp_path: Path) -> None:
    """Prefill, chunks over the prefix and single tokens, for what configs may change."""
    name, changes = VARIANTS[variant]
    save_tiny_family(name, tmp_path, **changes)
    span = load_all(tmp_path)
    hidden = hidden_states(span, 2)

    outputs = run_in_chunks(span, hidden, [5, 9, 1, 1, 1])

    torch.testing.assert_close(outputs, Reference(tmp_path).run(hidden), atol=TOLERANCE, rtol=0)
