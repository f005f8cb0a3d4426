"""What a block does to each row by itself, in one pass each: the norm and the gate, in Triton."""

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
