"""Fields of the Petals dialects, and their translation. Source: PETALS_PROTOCOL §10.1, §10.2.

Petals' own are `inputs`, `do_sample`, `temperature`, `top_k`, `top_p`, `repetition_penalty`,
`max_length`, `max_new_tokens`, `stop_sequence` and `extra_stop_sequences`; the others are ours,
named as in the OpenAI dialects.
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.api.sampling_fields import (
    MAX_BIASES,
    MAX_STOPS,
    StopText,
    TokenIds,
    TokenName,
    one_or_many,
)
from swarm_client.generation.parameters import SamplingParameters

MAX_TOKENS: Final = 1_000_000
_ONE_LENGTH: Final = (
    "You should set `max_length` or `max_new_tokens` (but not both) "
    "to reserve server-side attention caches"
)
_NUMBERS: Final = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)

Count = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class GenerateFields(BaseModel):
    """What both dialects say about one generation. Unknown fields are ignored, as Petals does."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    inputs: str | None = None
    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Annotated[dict[TokenName, float], Field(max_length=MAX_BIASES)] | None = None
    seed: int | None = None
    stop_token_ids: TokenIds | None = None
    ignore_eos: bool = False
    max_length: Count | None = None
    max_new_tokens: Count | None = None

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if (self.max_length is None) == (self.max_new_tokens is None):
            raise ValueError(_ONE_LENGTH)
        return self

    def sampling(self, vocab_size: int) -> SamplingParameters:
        """Return the sampling numbers; temperature 0 means the likeliest token.

        Raises:
            InvalidParametersError: one is out of range.
        """
        is_greedy = not self.do_sample or self.temperature == 0
        given: dict[str, Any] = {
            name: value for name in _NUMBERS if (value := getattr(self, name)) is not None
        }
        if self.temperature == 0:
            del given["temperature"]
        if self.logit_bias:
            given["logit_bias"] = tuple((int(name), bias) for name, bias in self.logit_bias.items())
        sampling = SamplingParameters(do_sample=not is_greedy, **given)
        sampling.check_vocabulary(vocab_size)
        return sampling


class GenerateForm(GenerateFields):
    """The fields of `POST /api/v1/generate`."""

    model: str = Field(max_length=1000)


class OpenMessage(BaseModel):
    """The first message of a WebSocket conversation.

    With `resume`, as a reply of an earlier connection had it, that conversation goes on.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["open_inference_session"]
    model: str = Field(max_length=1000)
    max_length: Count
    resume: str | None = Field(default=None, max_length=100)


class GenerateMessage(GenerateFields):
    """Every further message."""

    type: Literal["generate"]
    stop_sequence: StopText | None = None
    extra_stop_sequences: Annotated[
        tuple[StopText, ...], BeforeValidator(one_or_many), Field(max_length=MAX_STOPS)
    ] = ()

    @property
    def stop(self) -> tuple[str, ...]:
        """All texts that end the generation."""
        first = () if self.stop_sequence is None else (self.stop_sequence,)
        return (*first, *self.extra_stop_sequences)
