"""One row of logits, and how to choose a token from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from swarm_client.generation.parameters import SamplingParameters
from swarm_client.generation.token_history import TokenHistory


@dataclass(frozen=True, slots=True, eq=False)
class Biases:
    """`values` are added to the logits of `ids`, both `[num_biases]`."""

    ids: NDArray[np.int64]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, parameters: SamplingParameters) -> "Biases":
        """Return those of a request."""
        ids, values = zip(*parameters.logit_bias, strict=True)
        return cls(np.array(ids, np.int64), np.array(values, np.float32))


@dataclass(slots=True, eq=False)
class SamplerRow:
    """State of one request's sampling, kept from token to token.

    Attributes:
        token_ids: prompt and output so far, a list that grows; only penalties read it.
        random: of this request alone; one number is drawn per sampled token.
        num_prompt: tokens at the beginning of `token_ids` that are not output.
        num_logprobs: alternatives to name beside the token; None for no log-probabilities.
        mask: int32 `[ceil(vocab_size / 32)]` on the CPU: token `i` may be chosen if bit `i % 32`
            of word `i // 32` is set. None allows all tokens. Whoever owns it fills it anew for
            each token; at least one must be allowed.
        history: of what penalties count; None if there are none.
        biases: tokens and what is added to their logits; None if there are none.
    """

    parameters: SamplingParameters
    token_ids: Sequence[int]
    random: Random
    num_prompt: int = 0
    num_logprobs: int | None = None
    mask: Tensor | None = None
    history: TokenHistory | None = field(init=False)
    biases: Biases | None = field(init=False)

    def __post_init__(self) -> None:
        wanted = self.parameters
        counts_output = wanted.presence_penalty != 0 or wanted.frequency_penalty != 0
        repeats = wanted.repetition_penalty != 1
        self.history = (
            TokenHistory(self.token_ids, self.num_prompt, skips_prompt=not repeats)
            if counts_output or repeats
            else None
        )
        self.biases = Biases.of(wanted) if wanted.logit_bias else None

    @property
    def is_adjusted(self) -> bool:
        """Whether the likeliest token may be another one than that of the logits."""
        return self.mask is not None or self.history is not None or self.biases is not None
