"""Fields of the Petals dialects, and their translation. Source: PETALS_PROTOCOL §10.1, §10.2."""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from swarm_client.generation.parameters import SamplingParameters

MAX_TOKENS: Final = 1_000_000
_ONE_LENGTH: Final = (
    "You should set `max_length` or `max_new_tokens` (but not both) "
    "to reserve server-side attention caches"
)


def _one_or_many(value: object) -> object:
    """A list of texts may be given as one text: it is not a list of its characters."""
    return [value] if isinstance(value, str) else value


StopText = Annotated[str, Field(min_length=1, max_length=1000)]
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
    max_length: Count | None = None
    max_new_tokens: Count | None = None

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if (self.max_length is None) == (self.max_new_tokens is None):
            raise ValueError(_ONE_LENGTH)
        return self

    def sampling(self) -> SamplingParameters:
        """Return the sampling numbers; temperature 0 means the likeliest token.

        Raises:
            InvalidParametersError: one is out of range.
        """
        is_greedy = not self.do_sample or self.temperature == 0
        given = {
            "temperature": None if self.temperature == 0 else self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
        }
        numbers = {name: value for name, value in given.items() if value is not None}
        return SamplingParameters(do_sample=not is_greedy, **numbers)  # type: ignore[arg-type]


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
        tuple[StopText, ...], BeforeValidator(_one_or_many), Field(max_length=16)
    ] = ()

    @property
    def stop(self) -> tuple[str, ...]:
        """All texts that end the generation."""
        first = () if self.stop_sequence is None else (self.stop_sequence,)
        return (*first, *self.extra_stop_sequences)
