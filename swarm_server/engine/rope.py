"""Rotary position embeddings: frequencies of the known variants, and tables of them.

Source: RoFormer (Su et al., 2021); the llama3 and linear scaling as transformers computes them.
"""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from swarm_server.engine.kernels import row_operations

_FIRST_POSITIONS = 512


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Slows down low frequencies, keeps high ones and blends between them."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_max_positions: int

    def scale(self, frequencies: Tensor) -> Tensor:
        """Return the scaled frequencies, float32 [head_dim / 2]."""
        wavelengths = 2 * pi / frequencies
        low, high = self.low_frequency_factor, self.high_frequency_factor
        blend = (self.original_max_positions / wavelengths - low) / (high - low)
        blend = blend.clamp(0, 1)
        return (1 - blend) * frequencies / self.factor + blend * frequencies


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Stretches all positions by one factor."""

    factor: float

    def scale(self, frequencies: Tensor) -> Tensor:
        """Return the scaled frequencies, float32 [head_dim / 2]."""
        return frequencies / self.factor


@dataclass(frozen=True, slots=True)
class Rope:
    """Parameters of rotary positions; `scaling` None is the plain form."""

    theta: float = 10000.0
    scaling: Llama3Scaling | LinearScaling | None = None

    def frequencies(self, head_dim: int) -> Tensor:
        """Return radians per position, float32 [head_dim / 2]."""
        exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
        frequencies = 1.0 / (self.theta**exponents)
        return frequencies if self.scaling is None else self.scaling.scale(frequencies)


class RopeTable:
    """Cosines and sines of positions, in the dtype of the computation; grows on demand.

    The sines of the first half carry the minus sign of the rotation, so that rotating is
    `x * cos + roll(x, head_dim / 2) * sin`.
    """

    def __init__(
        self, rope: Rope, head_dim: int, *, dtype: torch.dtype, device: str = "cpu"
    ) -> None:
        self._frequencies = rope.frequencies(head_dim)
        self._dtype = dtype
        self._device = device
        self._cos, self._sin = self._compute(_FIRST_POSITIONS)

    def rows(self, positions: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, each [num_positions, 1, head_dim].

        Args:
            positions: int64 [num_positions], each less than `end`.
            end: how far the table must reach.
        """
        if end > len(self._cos):
            self._cos, self._sin = self._compute(max(end, 2 * len(self._cos)))
        return self._cos.index_select(0, positions), self._sin.index_select(0, positions)

    @torch.inference_mode(mode=False)  # whoever makes it grow, autograd may save its rows
    def _compute(self, num_positions: int) -> tuple[Tensor, Tensor]:
        angles = torch.outer(torch.arange(num_positions).float(), self._frequencies)
        cos, sin = angles.cos(), angles.sin()
        return (
            torch.cat((cos, cos), -1).unsqueeze(1).to(self._device, self._dtype),
            torch.cat((-sin, sin), -1).unsqueeze(1).to(self._device, self._dtype),
        )


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return heads turned by their positions; see `rotate_in_place`."""
    return heads * cos + heads.roll(heads.shape[-1] // 2, -1) * sin


def rotate_in_place(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotate heads by their positions.

    Args:
        heads: [num_tokens, num_heads, head_dim], overwritten; a token's lie together.
        cos: [num_tokens, 1, head_dim], from `RopeTable.rows`, as is `sin`.
        sin: see `cos`.
    """
    operations = row_operations(heads)
    if operations is not None:
        operations.rotate(heads, cos, sin)
        return
    swapped = heads.roll(heads.shape[-1] // 2, -1)
    heads.mul_(cos).addcmul_(swapped, sin)
