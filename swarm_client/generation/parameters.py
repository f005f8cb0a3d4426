"""How the next token is chosen. Pure data that checks itself."""

from dataclasses import dataclass
from math import inf

from swarm_client.errors import InvalidParametersError

_MAX_TOP_K = 1_000_000
_MAX_NUMBER = 1e4
_MAX_PENALTY = 2
_MAX_BIAS = 100
_MAX_BIASES = 1024
_MAX_TOKEN_ID = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParameters:
    """Numbers of one generation, named and defined as in transformers, or else as at OpenAI.

    With `do_sample` off the likeliest token is taken, and only penalties and biases matter.

    Attributes:
        temperature: divides the logits, > 0.
        top_k: keep that many tokens; 0 keeps all.
        top_p: keep the likeliest tokens whose probabilities sum to it, in (0, 1].
        min_p: drop tokens less likely than this times the likeliest one, in [0, 1].
        repetition_penalty: > 0; 1 is none. Of all tokens, those of the prompt included.
        presence_penalty: taken off the logits of tokens generated so far, in [-2, 2].
        frequency_penalty: likewise, times the number of their occurrences.
        logit_bias: pairs of a token and what is added to its logit, in [-100, 100].
        seed: makes a generation repeatable; None is a new one each time.

    Raises:
        InvalidParametersError: a number is out of range or of another type.
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.do_sample, bool):
            raise InvalidParametersError("do_sample", "true or false", self.do_sample)
        _check_number("temperature", self.temperature, above=0, most=_MAX_NUMBER)
        _check_whole("top_k", self.top_k, least=0, most=_MAX_TOP_K)
        _check_number("top_p", self.top_p, above=0, most=1)
        _check_number("min_p", self.min_p, least=0, most=1)
        _check_number("repetition_penalty", self.repetition_penalty, above=0, most=_MAX_NUMBER)
        _check_number("presence_penalty", self.presence_penalty, least=-2, most=_MAX_PENALTY)
        _check_number("frequency_penalty", self.frequency_penalty, least=-2, most=_MAX_PENALTY)
        _check_biases(self.logit_bias)
        if self.seed is not None:
            _check_whole("seed", self.seed, least=-(2**63), most=2**64 - 1)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Refuse what a model with so many tokens cannot do.

        Raises:
            InvalidParametersError: a bias is for a token that the model does not have.
        """
        for token_id, _ in self.logit_bias:
            _check_whole("logit_bias", token_id, least=0, most=vocab_size - 1)


def _check_biases(biases: tuple[tuple[int, float], ...]) -> None:
    for token_id, bias in biases:
        _check_whole("logit_bias", token_id, least=0, most=_MAX_TOKEN_ID)
        _check_number("logit_bias", bias, least=-_MAX_BIAS, most=_MAX_BIAS)
    if len(biases) > _MAX_BIASES:
        raise InvalidParametersError("logit_bias", f"at most {_MAX_BIASES} tokens", len(biases))
    if len({token_id for token_id, _ in biases}) < len(biases):
        raise InvalidParametersError("logit_bias", "each token once", len(biases))


def _check_number(
    field: str, value: object, *, most: float, above: float = -inf, least: float = -inf
) -> None:
    """Comparisons are false for a NaN, so it is refused like any number out of range."""
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not (above < value <= most and value >= least)
    ):
        bounds = f"from {least:g} to {most:g}"
        if above > -inf:
            bounds = f"above {above:g} and at most {most:g}"
        raise InvalidParametersError(field, f"a number {bounds}", value)


def _check_whole(field: str, value: object, *, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidParametersError(field, f"a whole number from {least} to {most}", value)
