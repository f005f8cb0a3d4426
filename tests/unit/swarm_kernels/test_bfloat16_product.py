"""Products in C with bfloat16 weights: exact to one rounding, and each row by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swarm_kernels.bfloat16_product import (
    AMX_SOURCE,
    SOURCE,
    VNNI_SOURCE,
    Bfloat16Product,
    InterleavedWeight,
    load_amx_product,
    load_vector_product,
    load_vnni_product,
)
from swarm_kernels.build import BuildError, build_library
from tests.harness.processor_kinds import SHORTER_VECTORS, library_for

MAX_ROWS = 70
"""Several blocks of rows, whatever fits into the registers of this processor."""

SHAPES = [(1, 1), (64, 2), (65, 63), (130, 257), (256, 1024)]
"""Outputs and inputs: lone ones, whole groups of panels, and what is left over."""


VECTORS = [(SOURCE, target) for target in (None, *SHORTER_VECTORS)]
AMX = [(AMX_SOURCE, target) for target in (None, "-march=x86-64")]
VNNI = [(VNNI_SOURCE, target) for target in (None, *SHORTER_VECTORS)]
"""Where a processor has none of them, the same is computed slowly."""

LOADERS = {
    SOURCE: load_vector_product,
    AMX_SOURCE: load_amx_product,
    VNNI_SOURCE: load_vnni_product,
}


@pytest.fixture(
    scope="module",
    params=[*VECTORS, *AMX, *VNNI],
    ids=lambda kind: f"{kind[0].stem}{kind[1] or ''}",
)
def product(request: pytest.FixtureRequest) -> Bfloat16Product:
    source, target = request.param
    if target is not None:
        return Bfloat16Product(library_for(target, source))
    product = LOADERS[source]()
    if product is not None:
        return product
    try:
        return Bfloat16Product(build_library(source))
    except BuildError as error:
        pytest.skip(str(error))


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_rows", [*range(1, 20), 32, 33, MAX_ROWS, 300])
def test_a_product_errs_less_than_a_rounding_to_16_bits(
    product: Bfloat16Product, shape: tuple[int, int], num_rows: int
) -> None:
    """Of any number of rows, for sizes that no vector divides; the bias is added unrounded.

    Floats err by the order of summing only, block floats by their smallest numbers as well.
    """
    weight, bias, rows = random(*shape), random(shape[0]), random(num_rows, shape[1])

    outputs = InterleavedWeight(product, weight, bias).multiply(rows, torch.float32)

    exact = rows.double() @ weight.double().T + bias.double()
    sizes = rows.double().norm(dim=1)[:, None] * weight.double().norm(dim=1) / shape[1] ** 0.5
    # A rounding to bfloat16 is up to 2e-3 of a number; float32 sums have 1024 of 24 bits.
    allowed = 5e-4 * sizes if product.has_block_floats else torch.tensor(1e-4)
    assert ((outputs.double() - exact).abs() <= allowed + 1e-6).all()


def test_results_of_16_bits_are_those_of_32_rounded_once(product: Bfloat16Product) -> None:
    """To nearest, ties to even, as torch does."""
    weight, rows = InterleavedWeight(product, random(130, 257), None), random(33, 257)

    assert torch.equal(weight.multiply(rows), weight.multiply(rows, torch.float32).bfloat16())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_row_does_not_depend_on_the_rows_beside_it(
    product: Bfloat16Product, data: st.DataObject
) -> None:
    """To the last bit, in any company: so that batches do not change greedy output."""
    num_outputs, num_inputs = data.draw(st.sampled_from(SHAPES))
    weight = InterleavedWeight(product, random(num_outputs, num_inputs), None)
    rows = random(MAX_ROWS, num_inputs)
    start = data.draw(st.integers(0, MAX_ROWS - 1))
    end = data.draw(st.integers(start + 1, MAX_ROWS))

    together = weight.multiply(rows, torch.float32)

    assert torch.equal(weight.multiply(rows[start:end], torch.float32), together[start:end])


def test_rows_of_several_chunks_are_the_same_rows(product: Bfloat16Product) -> None:
    """Rows that do not fit the second cache go through the weight in turns; the last are few."""
    weight, rows = InterleavedWeight(product, random(70, 8191), None), random(125, 8191)

    together = weight.multiply(rows, torch.float32)

    alone = torch.cat([weight.multiply(row[None], torch.float32) for row in rows])
    assert torch.equal(together, alone)


def test_threads_change_nothing(product: Bfloat16Product) -> None:
    """Each output is one thread's, whole."""
    weight, rows = InterleavedWeight(product, random(1030, 512), None), random(MAX_ROWS, 512)
    alone = weight.multiply(rows, torch.float32)
    num_threads = torch.get_num_threads()

    torch.set_num_threads(3)
    try:
        together = weight.multiply(rows, torch.float32)
    finally:
        torch.set_num_threads(num_threads)

    assert torch.equal(together, alone)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("num_rows", [3, 16, 40])
def test_a_poisoned_row_spoils_itself_only(
    product: Bfloat16Product, poison: float, num_rows: int
) -> None:
    """Not-a-number and infinities stay what they are, through the rounding as well."""
    weight, rows = InterleavedWeight(product, random(65, 63), None), random(num_rows, 63)
    clean = weight.multiply(rows)
    rows[1, 5] = poison

    outputs = weight.multiply(rows)

    assert not outputs[1].isfinite().any()
    assert outputs[1].isnan().all() == (poison != poison)
    others = torch.arange(num_rows) != 1
    assert torch.equal(outputs[others], clean[others])


@pytest.mark.parametrize("shape", [(5, 64), (2, 3, 64), (0, 64)])
def test_rows_come_in_any_shape(product: Bfloat16Product, shape: tuple[int, ...]) -> None:
    """Also apart from each other in memory, and not at all."""
    weight, rows = InterleavedWeight(product, random(10, 64), None), random(*shape[:-1], 128)

    outputs = weight.multiply(rows[..., ::2])

    assert outputs.shape == (*shape[:-1], 10)
    assert torch.equal(outputs, weight.multiply(rows[..., ::2].contiguous()))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_packed_weight_can_be_had_back(product: Bfloat16Product, shape: tuple[int, int]) -> None:
    """Bit for bit, block floats but for their smallest; training lays it out another way."""
    weight = random(*shape)

    unpacked = InterleavedWeight(product, weight, None).unpack()

    exact = weight.abs() > 0.25 if product.has_block_floats else torch.ones_like(weight).bool()
    assert torch.equal(unpacked[exact], weight[exact])
    torch.testing.assert_close(unpacked, weight, rtol=0, atol=5e-4)


@pytest.mark.parametrize("outlier", [30.0, 1000.0, 1e30])
def test_a_huge_input_costs_no_more_than_its_own_rounding(
    product: Bfloat16Product, outlier: float
) -> None:
    """Models have such; it makes the others of its block less exact, and itself does more."""
    weight, rows = random(130, 512), random(20, 512)
    rows[:, 7] = outlier

    outputs = InterleavedWeight(product, weight, None).multiply(rows, torch.float32)

    exact = rows.double() @ weight.double().T
    assert ((outputs.double() - exact).abs() < 2**-9 * outlier).all()


@pytest.mark.parametrize("size", [1e-20, 1e-24, 1e-30, 1e-38, 1e-41, 0.0])
def test_tiny_numbers_are_near_zero_at_worst(product: Bfloat16Product, size: float) -> None:
    """Also those that are no normal numbers."""
    weight, rows = random(64, 256), (random(5, 256).float() * size).bfloat16()

    outputs = InterleavedWeight(product, weight, None).multiply(rows, torch.float32)

    exact = rows.double() @ weight.double().T
    assert ((outputs.double() - exact).abs() <= 0.01 * size + 1e-25).all()
