"""What blocks do to each token alone gives the same in C as in torch."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from swarm_server.engine.kernels import RowOperations, row_operations
from swarm_server.engine.kernels.row_operations import SOURCE
from swarm_server.engine.norms import RMSNorm
from swarm_server.engine.rope import rotate
from tests.harness.processor_kinds import SHORTER_VECTORS, library_for

TOLERANCE = 2**-6  # torch rounds between products; values are below 4


def random(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def operations_for(rows: Tensor) -> RowOperations:
    with torch.no_grad():
        operations = row_operations(rows)
    if operations is None:
        pytest.skip("no C compiler here")
    return operations


@pytest.mark.parametrize("num_rows", [1, 3, 40])
@pytest.mark.parametrize("size", [8, 33, 1024])
def test_a_norm_is_that_of_torch(num_rows: int, size: int) -> None:
    """Of few rows and many, and of widths that no vector divides; with the same roundings."""
    rows, weight = random(num_rows, size), random(size)

    normed = operations_for(rows).rms_norm(rows, weight, 1e-6)

    expected = RMSNorm(weight, 1e-6)(rows)  # gradients are on: this goes through torch
    # Sums in another order may tip a rounding, of the norm or of its product with the weight.
    torch.testing.assert_close(normed, expected, atol=0, rtol=2**-6)


@pytest.mark.parametrize("num_rows", [1, 40])
@pytest.mark.parametrize("head_dim", [2, 20, 64])
def test_a_rotation_is_that_of_torch(num_rows: int, head_dim: int) -> None:
    """In place, where other heads lie between the rows; those stay as they are."""
    fused = random(num_rows, 7, head_dim)
    angles = random(num_rows, 1, head_dim // 2, dtype=torch.float32)
    cos = torch.cat((angles.cos(), angles.cos()), -1).bfloat16()
    sin = torch.cat((-angles.sin(), angles.sin()), -1).bfloat16()
    expected = rotate(fused[:, :4], cos, sin)
    rest = fused[:, 4:].clone()

    operations_for(fused).rotate(fused[:, :4], cos, sin)

    torch.testing.assert_close(fused[:, :4], expected, atol=TOLERANCE, rtol=0)
    assert torch.equal(fused[:, 4:], rest)


@pytest.mark.parametrize("size", [33, 1024])
def test_a_row_has_the_same_bits_alone(size: int) -> None:
    """A server that takes over computes in chunks what a lost one had computed in steps."""
    rows, weight, gates_ups = random(20, size), random(size), random(20, 2 * size)
    operations = operations_for(rows)

    normed, gated = operations.rms_norm(rows, weight, 1e-6), operations.gate(gates_ups)

    for own in range(20):
        alone = slice(own, own + 1)
        assert torch.equal(operations.rms_norm(rows[alone], weight, 1e-6), normed[alone])
        assert torch.equal(operations.gate(gates_ups[alone]), gated[alone])


def test_not_a_number_stays_in_its_row() -> None:
    """The other rows are normed as without it."""
    rows, weight = random(3, 16), random(16)
    clean = operations_for(rows).rms_norm(rows, weight, 1e-6)
    rows[1, 5] = torch.nan

    normed = operations_for(rows).rms_norm(rows, weight, 1e-6)

    assert normed[1].isnan().all()
    assert torch.equal(normed[[0, 2]], clean[[0, 2]])


def test_gradients_and_other_dtypes_go_through_torch() -> None:
    """The operations know nothing of autograd, and only bfloat16."""
    assert row_operations(torch.zeros(1, 2, dtype=torch.bfloat16)) is None
    with torch.no_grad():
        assert row_operations(torch.zeros(1, 2)) is None


@pytest.mark.parametrize("num_rows", [1, 40])
@pytest.mark.parametrize("size", [5, 64, 2816])
def test_gates_open_as_those_of_torch(num_rows: int, size: int) -> None:
    """With the same two roundings, from where they are shut to where they are wide open."""
    gates_ups = random(num_rows, 2 * size) * torch.linspace(0.1, 100, num_rows)[:, None].bfloat16()
    gates, ups = gates_ups.chunk(2, -1)

    gated = operations_for(gates_ups).gate(gates_ups)

    # An exponential that is off in its last place may tip a rounding.
    torch.testing.assert_close(gated, silu(gates) * ups, atol=1e-30, rtol=2**-6)


def test_what_is_not_finite_does_not_get_through_a_gate_as_a_number() -> None:
    """Whoever looks for such rows must find them; other values of the row do not notice."""
    gates = torch.tensor([[torch.nan, torch.inf, -torch.inf, 1.0, 1.0]])
    ups = torch.tensor([[2.0, 2.0, 2.0, torch.nan, 2.0]])

    gated = operations_for(gates.bfloat16()).gate(torch.cat((gates, ups), 1).bfloat16())

    assert gated.isfinite().tolist() == [[False, False, False, False, True]]


@pytest.mark.parametrize("num_rows", [1, 40])
def test_rows_are_stored_where_they_belong(num_rows: int) -> None:
    """Of tokens that lie apart, in any order; other slots stay as they are."""
    fused, slots = random(num_rows, 6, 20), random(64, 4, 20)
    places = torch.randperm(64, generator=torch.Generator().manual_seed(1))[:num_rows]
    expected = slots.index_copy(0, places, fused[:, 2:])

    operations_for(fused).store(fused[:, 2:], places, slots)

    assert torch.equal(slots, expected)


@pytest.mark.parametrize("target", SHORTER_VECTORS)
@pytest.mark.parametrize("size", [6, 34, 1024])
def test_shorter_vectors_give_the_same(target: str, size: int) -> None:
    """Of older processors: but for a rounding that sums in another order may tip."""
    rows, weight, gates_ups = random(9, size), random(size), random(9, 2 * size)
    heads, angles = random(9, 2, size), random(9, 1, size)
    shorter, own = RowOperations(library_for(target, SOURCE)), operations_for(rows)
    turned, expected = heads.clone(), heads.clone()

    shorter.rotate(turned, angles, angles)
    own.rotate(expected, angles, angles)

    normed, gated = shorter.rms_norm(rows, weight, 1e-6), shorter.gate(gates_ups)
    torch.testing.assert_close(normed, own.rms_norm(rows, weight, 1e-6), atol=0, rtol=2**-6)
    torch.testing.assert_close(gated, own.gate(gates_ups), atol=1e-30, rtol=2**-6)
    torch.testing.assert_close(turned, expected, atol=TOLERANCE, rtol=0)
