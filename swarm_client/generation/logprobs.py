"""Log-probabilities of chosen tokens, and of the likeliest others."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely the model itself found a token: before penalties, biases, masks and filters.

    Attributes:
        logprob: natural logarithm of its probability.
        top: the likeliest tokens and theirs, likeliest first; as many as were asked for.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
