"""How fast answers were, as figures that can be compared. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerTimes:
    """Of one streamed answer, in seconds since it was asked for."""

    first_s: float
    last_s: float
    num_tokens: int

    @property
    def per_token_s(self) -> float | None:
        """Time between two tokens; None where there is but one."""
        if self.num_tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.num_tokens - 1)


def figures_of(answers: Sequence[AnswerTimes], wall_s: float) -> dict[str, object]:
    """Return tokens a second of all answers together, and what single callers noticed.

    Args:
        wall_s: from the first question to the last token; > 0.
    """
    num_tokens = sum(answer.num_tokens for answer in answers)
    gaps_s = [gap_s for answer in answers if (gap_s := answer.per_token_s) is not None]
    return {
        "answers": len(answers),
        "tokens": num_tokens,
        "wall_s": round(wall_s, 3),
        "tokens_per_s": round(num_tokens / wall_s, 1),
        "first_token_ms": _spread_ms([answer.first_s for answer in answers]),
        "per_token_ms": _spread_ms(gaps_s),
    }


def _spread_ms(values_s: Sequence[float]) -> dict[str, float] | None:
    """Return the middle and the worst but one in a hundred, in ms; None of nothing."""
    if not values_s:
        return None
    ordered = sorted(values_s)
    return {
        name: round(1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2)
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
