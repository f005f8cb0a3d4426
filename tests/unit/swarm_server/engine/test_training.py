"""Forward and backward through a span, against transformers' layers and autograd."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine import Span, training
from swarm_server.engine.training import backward, forward
from tests.unit.swarm_server.engine.paged_sequences import PagedSpan, Part, run_in_chunks
from tests.unit.swarm_server.llama_models import load_all, save_llama

TOLERANCE = 1e-5  # of the largest value: without autograd, blocks round a little differently


@pytest.fixture(scope="module")
def span(tmp_path_factory: pytest.TempPathFactory) -> Span:
    directory = tmp_path_factory.mktemp("llama")
    save_llama(directory)
    return load_all(directory)


def random_tensor(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_equal(got: Tensor, expected: Tensor) -> None:
    atol = TOLERANCE * float(expected.abs().max())
    torch.testing.assert_close(got, expected, atol=atol, rtol=0)


def test_forward_equals_a_prefill(span: Span) -> None:
    """Of the same blocks, with the same prompts; the inputs stay as they are."""
    hidden, prompts = random_tensor(2, 6, 32), random_tensor(3, 1, 2, 32)
    paged = PagedSpan(span)
    parts = [Part(paged.new_sequence(), row, prompts=prompts[:, 0]) for row in hidden]

    outputs = forward(span, span.blocks, hidden, prompts)

    assert_equal(outputs, torch.stack(paged.run(*parts)))
    assert torch.equal(hidden, random_tensor(2, 6, 32))


@pytest.mark.parametrize("max_blocks_at_once", [1, 2])
def test_memory_for_fewer_blocks_gives_the_same_gradients(
    span: Span, max_blocks_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What autograd may not hold at once is computed twice."""
    hidden, gradient = random_tensor(2, 5, 32), random_tensor(2, 5, 32, seed=2)
    prompts = random_tensor(3, 2, 2, 32)
    expected = backward(span, span.blocks, hidden, gradient, prompts)

    saved_bytes = training._SAVED_PER_BLOCK * hidden.nbytes
    monkeypatch.setattr(training, "_MAX_SAVED_BYTES", max_blocks_at_once * saved_bytes)
    got = backward(span, span.blocks, hidden, gradient, prompts)

    for one, other in zip(got, expected, strict=True):
        assert one is not None
        assert other is not None
        assert_equal(one, other)


def test_gradients_of_parts_of_a_span_chain(span: Span) -> None:
    """Back through the last block, then through the first two, is back through all."""
    hidden, gradient = random_tensor(1, 4, 32), random_tensor(1, 4, 32, seed=2)
    first, last = BlockRange(0, 2), BlockRange(2, 3)

    middle = forward(span, first, hidden)
    of_middle, _ = backward(span, last, middle, gradient)
    got, _ = backward(span, first, hidden, of_middle)

    assert_equal(got, backward(span, span.blocks, hidden, gradient)[0])


def test_training_pauses_before_every_block(span: Span) -> None:
    """Once forward; for a backward pass in either direction. What the pause raises ends it."""
    hidden, pauses = random_tensor(1, 4, 32), list[int]()

    forward(span, span.blocks, hidden, pause=lambda: pauses.append(1))
    backward(span, span.blocks, hidden, hidden, pause=lambda: pauses.append(2))

    assert pauses == [1] * 3 + [2] * 6


def test_training_works_after_a_long_inference_grew_the_tables(span: Span) -> None:
    """Tables made without autograd serve it as well."""
    run_in_chunks(span, random_tensor(1, 700, 32), [700])

    of_hidden, of_prompts = backward(
        span, span.blocks, random_tensor(1, 4, 32), random_tensor(1, 4, 32)
    )

    assert of_hidden.isfinite().all()
    assert of_prompts is None


def test_gradients_need_no_symbolic_mathematics() -> None:
    """Autograd imports sympy to check a gradient given to it: 33 MiB that would stay."""
    source = (
        "import sys, torch\n"
        "from swarm_server.engine.training import _gradients, _Pass\n"
        "leaf = torch.ones(2, 3, requires_grad=True)\n"
        "(gradient,) = _gradients(_Pass([leaf], 2 * leaf), torch.full((2, 3), 5.0))\n"
        "print(gradient.unique().tolist(), 'sympy' in sys.modules)\n"
    )

    command = [sys.executable, "-W", "ignore", "-c", source]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert answer == "[10.0] False\n"
