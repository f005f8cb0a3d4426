"""Norm, gate and rotation in one pass each."""

import torch
from torch.nn import functional

from tests.unit.swarm_server.engine.cuda.pages import DEVICE

from swarm_server.engine.cuda.row_kernels import (  # isort: skip  # the import above may skip all
    gate,
    rms_norm,
    rotations,
)


def test_gate_opens_by_silu() -> None:
    """Widths that fill no whole number of blocks are covered to the end."""
    gate_up = torch.randn(3, 2 * 1500, device=DEVICE)

    gated = gate(gate_up)

    opening, factor = gate_up.chunk(2, -1)
    torch.testing.assert_close(gated, functional.silu(opening) * factor)


def test_rows_are_normed_over_their_whole_width() -> None:
    """So, too, where the width is no power of two."""
    hidden, weight = torch.randn(3, 1500, device=DEVICE), torch.rand(1500, device=DEVICE)

    normed = rms_norm(hidden, weight, 1e-5)

    torch.testing.assert_close(normed, functional.rms_norm(hidden, (1500,), weight, 1e-5))


def test_rotations_are_cosines_and_sines_of_positions() -> None:
    """For any position, also far out, and rows that only fill up; heads of any width."""
    positions = torch.tensor([0, 1, 77, 130_000, -1], dtype=torch.int32, device=DEVICE)
    frequencies = 0.9 ** torch.arange(24, device=DEVICE)

    cos, sin = rotations(positions, frequencies, torch.float32)

    angles = positions[:, None] * frequencies
    torch.testing.assert_close(cos, angles.cos(), rtol=0.0, atol=1e-6)
    torch.testing.assert_close(sin, angles.sin(), rtol=0.0, atol=1e-6)
