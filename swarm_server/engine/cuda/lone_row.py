"""Products of one row with weights, in Triton: all that counts is how fast weights are read.

The libraries' products take whole tiles of rows and, of a lone one, read small weights at two
thirds of the memory's speed. Here norms, gates and sums also cost no kernels of their own.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803, PLR0913  # a kernel's parameters are pointers and constants of its build

from typing import Final

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]
from torch import Tensor

from swarm_server.engine.cuda.early_start import early_start, wait_for_others

_NUM_WARPS: Final = 8

_WIDEST: Final = 4096
"""A row up to this wide is taken at once, by programs with few outputs."""

_BLOCK: Final = 2048
"""Inputs that are taken at once of a wider one, for twice as many outputs: a program of either kind
has 64 weights for each thread under way, the first of them before its row is there. Other shapes
were slower on an H200, as were other numbers of warps.
"""


@triton.jit
def _inverse_rms(row, eps, WIDTH: tl.constexpr, FILLED_WIDTH: tl.constexpr):
    lane = tl.arange(0, FILLED_WIDTH)
    values = tl.load(row + lane, mask=lane < WIDTH, other=0.0).to(tl.float32)
    return tl.rsqrt(tl.sum(values * values, 0) / WIDTH + eps)


@triton.jit
def _load_inputs(row, norm_weight, inverse, lane, WIDTH: tl.constexpr, HAS_NORM: tl.constexpr):
    values = tl.load(row + lane, mask=lane < WIDTH, other=0.0)
    if HAS_NORM:
        rounded = (values.to(tl.float32) * inverse).to(values.dtype)
        values = rounded * tl.load(norm_weight + lane, mask=lane < WIDTH, other=0.0)
    return values.to(tl.float32)[None, :]


@triton.jit
def _load_weights(weight, output, lane, NUM_OUTPUTS, WIDTH: tl.constexpr):
    at = weight + output.to(tl.int64)[:, None] * WIDTH + lane[None, :]
    mask = (output < NUM_OUTPUTS)[:, None] & (lane < WIDTH)[None, :]
    return tl.load(at, mask=mask, other=0.0, eviction_policy="evict_first")


@triton.jit
def _product_kernel(
    row,
    norm_weight,
    eps,
    weight,
    bias,
    outputs,
    NUM_OUTPUTS: tl.constexpr,
    WIDTH: tl.constexpr,
    FILLED_WIDTH: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ADDS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Some outputs of a product; of the row as normed, if it is; added to what is there."""
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    lane = tl.arange(0, BLOCK)
    weights = _load_weights(weight, output, lane, NUM_OUTPUTS, WIDTH)
    wait_for_others(EARLY)
    inverse = _inverse_rms(row, eps, WIDTH, FILLED_WIDTH) if HAS_NORM else 1.0
    inputs = _load_inputs(row, norm_weight, inverse, lane, WIDTH, HAS_NORM)
    product = tl.sum(weights.to(tl.float32) * inputs, 1)
    if BLOCK < WIDTH:
        sums = tl.zeros([OUTPUTS, BLOCK], tl.float32)
        for start in range(BLOCK, WIDTH, BLOCK):
            more = _load_weights(weight, output, start + lane, NUM_OUTPUTS, WIDTH).to(tl.float32)
            sums += more * _load_inputs(row, norm_weight, inverse, start + lane, WIDTH, HAS_NORM)
        product += tl.sum(sums, 1)
    is_output = output < NUM_OUTPUTS
    if HAS_BIAS:
        product += tl.load(bias + output, mask=is_output, other=0.0).to(tl.float32)
    if ADDS:
        product += tl.load(outputs + output, mask=is_output, other=0.0).to(tl.float32)
    tl.store(outputs + output, product.to(outputs.dtype.element_ty), mask=is_output)


@triton.jit
def _gated_product_kernel(
    row,
    norm_weight,
    eps,
    weight,
    bias,
    outputs,
    NUM_OUTPUTS: tl.constexpr,
    WIDTH: tl.constexpr,
    FILLED_WIDTH: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Some outputs of `silu(gate) * up` of the normed row."""
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    lane = tl.arange(0, BLOCK)
    up_weight = weight + NUM_OUTPUTS * WIDTH
    gates = _load_weights(weight, output, lane, NUM_OUTPUTS, WIDTH)
    ups = _load_weights(up_weight, output, lane, NUM_OUTPUTS, WIDTH)
    wait_for_others(EARLY)
    inverse = _inverse_rms(row, eps, WIDTH, FILLED_WIDTH)
    inputs = _load_inputs(row, norm_weight, inverse, lane, WIDTH, True)
    gate = tl.sum(gates.to(tl.float32) * inputs, 1)
    up = tl.sum(ups.to(tl.float32) * inputs, 1)
    if BLOCK < WIDTH:
        gate_sums = tl.zeros([OUTPUTS, BLOCK], tl.float32)
        up_sums = tl.zeros([OUTPUTS, BLOCK], tl.float32)
        for start in range(BLOCK, WIDTH, BLOCK):
            more_gates = _load_weights(weight, output, start + lane, NUM_OUTPUTS, WIDTH)
            more_ups = _load_weights(up_weight, output, start + lane, NUM_OUTPUTS, WIDTH)
            more_inputs = _load_inputs(row, norm_weight, inverse, start + lane, WIDTH, True)
            gate_sums += more_gates.to(tl.float32) * more_inputs
            up_sums += more_ups.to(tl.float32) * more_inputs
        gate += tl.sum(gate_sums, 1)
        up += tl.sum(up_sums, 1)
    is_output = output < NUM_OUTPUTS
    if HAS_BIAS:
        gate += tl.load(bias + output, mask=is_output, other=0.0).to(tl.float32)
        up += tl.load(bias + NUM_OUTPUTS + output, mask=is_output, other=0.0).to(tl.float32)
    gated = gate / (1 + tl.exp(-gate)) * up
    tl.store(outputs + output, gated.to(outputs.dtype.element_ty), mask=is_output)


def multiply_normed(
    row: Tensor, norm_weight: Tensor, eps: float, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Return the product of a weight [num_outputs, width] with a row [1, width], RMS-normed."""
    outputs = row.new_empty(1, len(weight))
    _multiply(row, norm_weight, eps, weight, bias, outputs)
    return outputs


def add_product(total: Tensor, row: Tensor, weight: Tensor) -> None:
    """Add the product of a weight with a row [1, width] to `total` [1, num_outputs], in place."""
    _multiply(row, None, 0.0, weight, None, total)


def gate_normed(
    row: Tensor, norm_weight: Tensor, eps: float, gate_up: Tensor, bias: Tensor | None
) -> Tensor:
    """Return `silu(gate) * up` of a row [1, width], RMS-normed; `gate_up` holds both weights."""
    num_outputs, width = len(gate_up) // 2, gate_up.shape[1]
    outputs = row.new_empty(1, num_outputs)
    weights_each, block = _tile(width)
    outputs_each = weights_each // 2
    _gated_product_kernel[(-(-num_outputs // outputs_each),)](
        row,
        norm_weight,
        eps,
        gate_up,
        gate_up if bias is None else bias,
        outputs,
        NUM_OUTPUTS=num_outputs,
        WIDTH=width,
        FILLED_WIDTH=triton.next_power_of_2(width),
        OUTPUTS=outputs_each,
        BLOCK=block,
        HAS_BIAS=bias is not None,
        num_warps=_NUM_WARPS,
        **early_start(row.device),
    )
    return outputs


def _multiply(
    row: Tensor,
    norm_weight: Tensor | None,
    eps: float,
    weight: Tensor,
    bias: Tensor | None,
    outputs: Tensor,
) -> None:
    num_outputs, width = weight.shape
    outputs_each, block = _tile(width)
    _product_kernel[(-(-num_outputs // outputs_each),)](
        row,
        row if norm_weight is None else norm_weight,
        eps,
        weight,
        row if bias is None else bias,
        outputs,
        NUM_OUTPUTS=num_outputs,
        WIDTH=width,
        FILLED_WIDTH=triton.next_power_of_2(width),
        OUTPUTS=outputs_each,
        BLOCK=block,
        HAS_NORM=norm_weight is not None,
        HAS_BIAS=bias is not None,
        ADDS=norm_weight is None,
        num_warps=_NUM_WARPS,
        **early_start(row.device),
    )


def _tile(width: int) -> tuple[int, int]:
    """Return how many weights of an input a program takes, and how many inputs at once."""
    if width <= _WIDEST:
        return 4, triton.next_power_of_2(width)
    return 8, _BLOCK
