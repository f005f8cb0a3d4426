"""What is done to each row by itself, in one pass each: norm, gate and rotation, in Triton."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803  # constants of a kernel's build

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]
from torch import Tensor

_GATE_BLOCK = 1024


@triton.jit
def _rms_norm_kernel(hidden, weight, normed, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    values = tl.load(hidden + row * WIDTH + lane, mask=lane < WIDTH, other=0.0).to(tl.float32)
    factor = tl.load(weight + lane, mask=lane < WIDTH, other=0.0)
    inverse = tl.rsqrt(tl.sum(values * values, 0) / WIDTH + eps)
    rounded = (values * inverse).to(factor.dtype)  # before the weight, as transformers does
    tl.store(normed + row * WIDTH + lane, rounded * factor, mask=lane < WIDTH)


@triton.jit
def _gate_kernel(gate_up, gated, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    row, lane = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    source = gate_up + row * 2 * WIDTH + lane
    gate = tl.load(source, mask=lane < WIDTH, other=0.0).to(tl.float32)
    up = tl.load(source + WIDTH, mask=lane < WIDTH, other=0.0).to(tl.float32)
    opened = gate / (1 + tl.exp(-gate)) * up
    tl.store(gated + row * WIDTH + lane, opened.to(gated.dtype.element_ty), mask=lane < WIDTH)


@triton.jit
def _rotation_kernel(positions, frequencies, cos, sin, HALF: tl.constexpr, BLOCK: tl.constexpr):
    row, lane = tl.program_id(0), tl.arange(0, BLOCK)
    frequency = tl.load(frequencies + lane, mask=lane < HALF, other=0.0)
    angle = tl.load(positions + row).to(tl.float32) * frequency
    at = row * HALF + lane
    tl.store(cos + at, tl.cos(angle).to(cos.dtype.element_ty), mask=lane < HALF)
    tl.store(sin + at, tl.sin(angle).to(sin.dtype.element_ty), mask=lane < HALF)


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return rows [num_rows, width], contiguous, of unit root mean square, times `weight`."""
    num_rows, width = hidden.shape
    normed = torch.empty_like(hidden)
    block = triton.next_power_of_2(width)
    _rms_norm_kernel[(num_rows,)](hidden, weight, normed, eps, width, block, num_warps=8)
    return normed


def gate(gate_up: Tensor) -> Tensor:
    """Return `silu(gate) * up`, [num_rows, width], of [num_rows, 2 * width], gate first."""
    num_rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    gated = gate_up.new_empty(num_rows, width)
    grid = (num_rows, -(-width // _GATE_BLOCK))
    _gate_kernel[grid](gate_up, gated, width, _GATE_BLOCK)
    return gated


def rotations(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosines and sines [num_rows, half] of positions [num_rows] times `frequencies` [half].

    Rounded to `dtype`, as the reference does.
    """
    num_rows, half = len(positions), len(frequencies)
    cos = torch.empty(num_rows, half, dtype=dtype, device=positions.device)
    sin = torch.empty_like(cos)
    block = triton.next_power_of_2(half)
    _rotation_kernel[(num_rows,)](positions, frequencies, cos, sin, half, block, num_warps=1)
    return cos, sin
