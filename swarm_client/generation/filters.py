"""Top-k, top-p and min-p over many rows at once, without sorting the vocabulary if it can be
avoided.

Each filter keeps a prefix of a row's tokens in order of probability. So the likeliest candidates
are enough whenever the prefix ends before they do; a row for which it does not is reported as not
settled, to be drawn again from the whole vocabulary with the same number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log
from typing import Final, NamedTuple

import torch
from torch import Tensor

from swarm_client.generation.candidates import likeliest_tokens
from swarm_client.generation.draws import draw, total_mass
from swarm_client.generation.parameters import SamplingParameters

_MIN_CANDIDATES: Final = 128
_MAX_CANDIDATES: Final = 1024
_MIN_TEMPERATURE: Final = 1e-6  # float32 cannot divide by much less


@dataclass(frozen=True, slots=True)
class FilterColumns:
    """Parameters of sampled rows, one column each: `[num_rows, 1]`.

    Attributes:
        temperature: float32.
        top_k: int64; the size of the vocabulary when off.
        top_p: float64; infinite when off.
        min_score: float64, of a token relative to the likeliest; minus infinite when off.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_score: Tensor
    vocab_size: int

    @classmethod
    def of(
        cls, parameters: Sequence[SamplingParameters], vocab_size: int, device: torch.device
    ) -> "FilterColumns":
        """Return the columns of these rows."""

        def column(values: Sequence[float], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device).unsqueeze(1)

        return cls(
            column([max(p.temperature, _MIN_TEMPERATURE) for p in parameters], torch.float32),
            column([min(p.top_k or vocab_size, vocab_size) for p in parameters], torch.int64),
            column([p.top_p if p.top_p < 1 else inf for p in parameters], torch.float64),
            column([log(p.min_p) if p.min_p else -inf for p in parameters], torch.float64),
            vocab_size,
        )

    @property
    def keeps_all(self) -> Tensor:
        """Bool `[num_rows]`: no filter is on."""
        is_off = (self.top_k == self.vocab_size) & self.top_p.isinf() & self.min_score.isinf()
        return is_off.squeeze(1)

    @property
    def num_candidates(self) -> int:
        """How many of the likeliest tokens are worth a try: one more than the largest small k."""
        small = self.top_k[self.top_k < _MAX_CANDIDATES]
        largest = int(small.max()) if len(small) else 0
        return min(max(_MIN_CANDIDATES, largest + 1), self.vocab_size)

    def more_candidates(self, num_candidates: int) -> int:
        """Return how many to try when those were not enough for a row; in the end all."""
        wanted = _MAX_CANDIDATES if num_candidates < _MAX_CANDIDATES else self.vocab_size
        return min(wanted, self.vocab_size)

    def of_rows(self, indexes: Tensor) -> "FilterColumns":
        """Return the columns of some of the rows."""
        return FilterColumns(
            self.temperature[indexes],
            self.top_k[indexes],
            self.top_p[indexes],
            self.min_score[indexes],
            self.vocab_size,
        )


class Drawn(NamedTuple):
    """`tokens`, int64 `[num_rows]`, are valid where `is_settled`, bool `[num_rows]`."""

    tokens: Tensor
    is_settled: Tensor


def draw_filtered(
    scaled: Tensor, columns: FilterColumns, uniforms: Tensor, num_candidates: int
) -> Drawn:
    """Draw one token per row among those that the filters keep.

    Args:
        scaled: float32 `[num_rows, vocab_size]`: logits over temperature, the largest at 0, those
            of impossible tokens minus infinite.
        columns: of the same rows.
        num_candidates: how many of the likeliest tokens to look at.
    """
    scores, token_ids = likeliest_tokens(scaled, num_candidates)
    weights = scores.double().exp()
    keeps = scores >= scores.gather(1, (columns.top_k - 1).clamp(max=num_candidates - 1))
    has_top_k = columns.top_k < columns.vocab_size
    mass_of_k = (weights * keeps).sum(dim=-1, keepdim=True)
    kept_mass = torch.where(has_top_k, mass_of_k, _total_mass(scaled, columns))
    mass_before = weights.cumsum(dim=-1) - weights
    keeps &= mass_before < columns.top_p * kept_mass
    keeps &= scores >= columns.min_score
    choice = draw(weights * keeps, uniforms)
    last_kept = scores.gather(1, keeps.sum(dim=-1, keepdim=True) - 1)
    # Tokens as likely as the last candidate may have been left out of the candidates, which does
    # not matter if they are impossible.
    last = scores[:, -1:]
    is_settled = (last_kept > last) | last.isneginf() | (num_candidates == columns.vocab_size)
    return Drawn(token_ids.gather(1, choice.unsqueeze(1)).squeeze(1), is_settled.squeeze(1))


def _total_mass(scaled: Tensor, columns: FilterColumns) -> Tensor:
    """Return the mass of the whole vocabulary, `[num_rows, 1]`, if any row's top-p needs it."""
    needs_it = (columns.top_k == columns.vocab_size) & columns.top_p.isfinite()
    if not bool(needs_it.any()):
        return torch.ones_like(columns.top_p)
    return total_mass(scaled.exp())
