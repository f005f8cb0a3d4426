"""Heads of another arithmetic than their weights', and what they cost."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor

from swarm_client.models.heads import HeadKind, choose_head, head_bytes, make_head
from swarm_client.models.int8_head import Int8Head, can_quantize
from swarm_client.models.local_size import local_bytes
from swarm_client.models.packed_head import can_pack
from swarm_client.models.registry import load_local_parts, read_facts
from swarm_kernels.measuring import NUM_TRIES
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError

needs_int8 = pytest.mark.skipif(not can_quantize(), reason="int8 products are made for x86")


@pytest.fixture
def weight() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(300, 64)


@needs_int8
@pytest.mark.parametrize("num_rows", [1, 3, 40])
def test_an_int8_head_errs_by_a_fiftieth_of_the_logits_spread(
    weight: Tensor, num_rows: int
) -> None:
    """Two roundings to 8 bits, averaged over 64 products; whatever the size of a hidden state."""
    hidden = torch.randn(num_rows, 64) * torch.logspace(-3, 3, num_rows)[:, None]
    exact = hidden @ weight.T

    error = Int8Head(weight)(hidden) - exact

    assert (error.std(dim=1) < 0.02 * exact.std(dim=1)).all()


@needs_int8
def test_a_row_of_an_int8_head_does_not_depend_on_its_neighbours(weight: Tensor) -> None:
    """To the last bit: a seed gives the same tokens, whatever else is in the batch."""
    head, hidden = Int8Head(weight), torch.randn(40, 64) * 10

    together = head(hidden)

    alone = torch.cat([head(row[None]) for row in hidden])
    assert torch.equal(together, alone)


@needs_int8
def test_an_int8_head_has_no_opinion_on_nothing(weight: Tensor) -> None:
    """All logits of a hidden state of zeros are equal, and finite."""
    assert torch.equal(Int8Head(weight)(torch.zeros(1, 64)), torch.zeros(1, 300))


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_take_hidden_states_of_any_dtype(
    weight: Tensor, kind: HeadKind, dtype: torch.dtype
) -> None:
    """Rounded to what the head computes in."""
    hidden = torch.randn(3, 64).to(dtype)
    head = make_head(weight.to(dtype), kind)

    logits = head(hidden).float()

    exact = hidden.float() @ weight.to(dtype).float().T
    torch.testing.assert_close(logits, exact, rtol=2**-6, atol=2**-3)


def ticks(*took_s: float) -> Iterator[float]:
    """Readings of a clock around tries that take so long, in turns."""
    now = 0.0
    for part_s in took_s * NUM_TRIES:
        yield now
        now += part_s
        yield now


@pytest.mark.parametrize(
    ("bfloat16_s", "float32_s", "chosen"), [(1.0, 2.0, "bfloat16"), (2.0, 1.0, "float32")]
)
def test_the_faster_of_two_exact_heads_is_chosen(
    bfloat16_s: float, float32_s: float, chosen: str
) -> None:
    """Measured here, for no flag of a processor tells."""
    clock = ticks(bfloat16_s, float32_s)

    assert choose_head("auto", torch.bfloat16, "cpu", 64, clock=lambda: next(clock)) == chosen


def test_float32_and_accelerators_keep_their_head() -> None:
    """Fewer bits change tokens, and have to be asked for."""
    clock = count()

    assert choose_head("auto", torch.float32, "cpu", 64, clock=lambda: next(clock)) is None
    assert choose_head("auto", torch.bfloat16, "cuda:0", 64, clock=lambda: next(clock)) is None
    assert next(clock) == 0
    assert choose_head("bfloat16", torch.float32, "cpu", 64) == "bfloat16"


def test_int8_on_an_accelerator_is_refused() -> None:
    """Before anything is loaded."""
    with pytest.raises(CheckpointError, match="needs an x86 CPU"):
        choose_head("int8", torch.bfloat16, "cuda:0", 64)


@pytest.mark.parametrize("is_tied", [True, False])
def test_only_a_tied_head_of_the_same_arithmetic_costs_nothing(is_tied: bool) -> None:
    """Everything else is a copy."""
    weight = torch.empty(300, 64)

    assert head_bytes(weight, None, is_tied=is_tied) == (0 if is_tied else 300 * 64 * 4)
    assert head_bytes(weight, "bfloat16", is_tied=is_tied) == 300 * 64 * 2
    assert head_bytes(weight, "int8", is_tied=is_tied) == 300 * (64 + 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_size_of_local_parts_is_known_before_they_are_loaded(
    tiny_llama: Path, dtype: torch.dtype
) -> None:
    """But for the norm, which is not worth counting."""
    checkpoint = Checkpoint.open(str(tiny_llama))
    facts = read_facts(checkpoint)

    counted = local_bytes(checkpoint, facts, None, dtype=dtype, device="cpu")

    parts = load_local_parts(checkpoint, dtype=dtype)
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in parts.parameters()}
    norm_bytes = facts.hidden_size * dtype.itemsize
    is_copied = can_pack(parts.lm_head.weight) and len(tensors) < 3
    copied_bytes = parts.lm_head.weight.nbytes if is_copied else 0
    assert counted == sum(tensors.values()) - norm_bytes + copied_bytes
