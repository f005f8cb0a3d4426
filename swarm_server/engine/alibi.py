"""Attention with linear biases: no positions in the vectors, a bias per head and distance.

Source: Press et al., 2021. As in BLOOM, the bias grows with the key's position instead of falling
with its distance, which softmax does not tell apart.
"""

from dataclasses import dataclass
from math import floor, log2

import torch
from torch import Tensor

_FIRST_POSITIONS = 512


@dataclass(frozen=True, slots=True)
class Alibi:
    """Biases of `num_heads` heads, times `scale`.

    `is_rounded`: they are computed in bfloat16 whatever the model's dtype is, as Falcon's are.
    """

    num_heads: int
    scale: float = 1.0
    is_rounded: bool = False

    def slopes(self) -> Tensor:
        """Return the slope of every head, float32 [num_heads].

        A power of two of heads has a geometric row; the rest take every other one of the row for
        twice as many.
        """
        closest = 2 ** floor(log2(self.num_heads))
        odd = _geometric(2 * closest)[::2][: self.num_heads - closest]
        return torch.cat((_geometric(closest), odd))


def _geometric(num_heads: int) -> Tensor:
    base = 2.0 ** -(2.0 ** -(log2(num_heads) - 3))
    return torch.pow(torch.tensor(base), torch.arange(1, num_heads + 1))


class AlibiTable:
    """Biases of keys, in the dtype of the computation; grows on demand."""

    def __init__(self, alibi: Alibi, *, dtype: torch.dtype, device: str = "cpu") -> None:
        self._alibi = alibi
        self._dtype = dtype
        self._device = device
        self._biases = self._compute(_FIRST_POSITIONS)

    def keys(self, end: int) -> Tensor:
        """Return biases of the keys at positions [0, end), [num_heads, 1, end]."""
        num_positions = self._biases.shape[-1]
        if end > num_positions:
            self._biases = self._compute(max(end, 2 * num_positions))
        return self._biases[:, :, :end]

    @torch.inference_mode(mode=False)  # whoever makes it grow, autograd may save its rows
    def _compute(self, num_positions: int) -> Tensor:
        slopes = self._alibi.slopes()[:, None, None]
        if self._alibi.is_rounded:
            slopes = slopes.bfloat16()
        biases = (slopes * torch.arange(num_positions)).to(self._device, self._dtype)
        return biases * self._alibi.scale
