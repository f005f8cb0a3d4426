"""Fields of the OpenAI dialects, and their translation into what the engine takes.

Fields that would change the answer and are not offered are refused; all others are ignored, and
named in the answer's `x-swarmgate-ignored` header.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from app.errors import UnsupportedFieldError
from app.inference.requests import ChatMessage
from swarm_client.generation.parameters import SamplingParameters

MAX_TOKENS: Final = 1_000_000
MAX_PROMPTS: Final = 128
_MAX_NAMED: Final = 20
_MAX_STOPS: Final = 16
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

# Field -> the values that change nothing.
_UNSUPPORTED: Final[Mapping[str, tuple[object, ...]]] = {
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _none_is_off(value: object) -> object:
    return 0 if value == -1 and not isinstance(value, bool) else value


def _text_as_part(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _is_tokens(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _prompts(value: object) -> list[str | list[int]]:
    if isinstance(value, str) or _is_tokens(value):
        value = [value]
    if (
        isinstance(value, list)
        and 0 < len(value) <= MAX_PROMPTS
        and (all(isinstance(item, str) for item in value) or all(map(_is_tokens, value)))
    ):
        return value
    raise ValueError(
        f"expected a text, a list of tokens, or up to {MAX_PROMPTS} of either in a list"
    )


StopText = Annotated[str, Field(min_length=1, max_length=1000)]
Count = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class StreamOptions(BaseModel):
    """Of a streamed answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    include_usage: bool = False


class CompletionFields(BaseModel):
    """What both dialects say about one generation."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    model: str = Field(max_length=1000)
    max_tokens: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Annotated[
        Annotated[list[StopText], Field(max_length=_MAX_STOPS)] | None,
        BeforeValidator(_one_or_many),
    ] = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = None
    n: Annotated[int | None, Field(ge=1, le=MAX_PROMPTS)] = None
    best_of: int | None = None
    seed: int | None = None
    top_k: Annotated[int | None, BeforeValidator(_none_is_off)] = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    @property
    def max_new_tokens(self) -> int | None:
        """Tokens to generate at most, if the caller says so."""
        return self.max_tokens

    @property
    def includes_usage(self) -> bool:
        """Whether the stream ends with the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def ignored_fields(self) -> str:
        """Return the names of fields that had no effect, fit for a header.

        Raises:
            UnsupportedFieldError: one would have changed the answer.
        """
        if self.best_of not in (None, self.n or 1):
            raise UnsupportedFieldError("best_of must equal n: nothing is ranked", "best_of")
        extra = self.model_extra or {}
        check_unsupported(extra)
        return name_fields(name for name in extra if name not in _UNSUPPORTED)

    def sampling(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the sampling numbers: the caller's, else the model's.

        Temperature 0 takes the likeliest token; any other number that only matters for sampling
        turns sampling on.

        Raises:
            InvalidParametersError: one is out of range.
        """
        names = ("temperature", "top_p", "top_k", "min_p")
        shaping = {n: value for n in names if (value := getattr(self, n)) is not None}
        given: dict[str, Any] = dict(shaping)  # checked by SamplingParameters itself
        if given.get("temperature") == 0:
            del given["temperature"]
            given["do_sample"] = False
        elif shaping:
            given["do_sample"] = True
        if self.repetition_penalty is not None:
            given["repetition_penalty"] = self.repetition_penalty
        return replace(defaults, seed=self.seed, **given)


class TextPart(BaseModel):
    """A piece of a message."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[TextPart], BeforeValidator(_text_as_part)]

    def to_chat(self) -> ChatMessage:
        """Return the message as the engine takes it."""
        role = "system" if self.role == "developer" else self.role
        return ChatMessage(role, "".join(part.text for part in self.content))


class ChatFields(CompletionFields):
    """The body of `POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: Count | None = None

    @property
    def max_new_tokens(self) -> int | None:
        """Tokens to generate at most, by either of its names."""
        return self.max_completion_tokens or self.max_tokens


class TextFields(CompletionFields):
    """The body of `POST /v1/completions`. `prompt` is one text, the tokens of one, or several."""

    prompt: Annotated[list[str | list[int]], PlainValidator(_prompts)]


def check_unsupported(fields: Mapping[str, object]) -> None:
    """Refuse fields that would change the answer.

    Raises:
        UnsupportedFieldError: names the first of them.
    """
    for name, value in fields.items():
        harmless = _UNSUPPORTED.get(name)
        if harmless is not None and value is not None and value not in harmless:
            raise UnsupportedFieldError(f"{name} is not supported by this gateway", name)


def name_fields(names: Iterable[str]) -> str:
    """Return names for a header: what could break it is left out, and so are very many."""
    return ", ".join([name for name in sorted(names) if _SAFE_NAME.fullmatch(name)][:_MAX_NAMED])
