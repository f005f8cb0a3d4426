"""How long each token of a generation took, and which wait its reader noticed. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Generation:
    """What was made, and how long each token took; the first one includes the prefill."""

    tokens: tuple[int, ...]
    seconds: tuple[float, ...]


def usual_step_s(usual: Generation) -> float:
    """Return how long a token after the first one takes."""
    return statistics.median(usual.seconds[1:])


def longest_gap_s(made: Generation, usual: Generation) -> float:
    """Return the longest wait for a token beyond what that token usually takes; 0 if none came."""
    usual_s = (usual.seconds[0], *[usual_step_s(usual)] * (len(usual.seconds) - 1))
    gaps = [took - usually for took, usually in zip(made.seconds, usual_s, strict=False)]
    return max(gaps, default=0.0)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values, of which there is one, that this share does not exceed."""
    return round(sorted(values)[max(0, ceil(share * len(values)) - 1)], 3)
