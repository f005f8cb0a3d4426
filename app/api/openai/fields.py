"""Fields of the OpenAI dialects, and their translation into what the engine takes."""

from typing import Annotated, Final, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    field_validator,
)

from app.api.openai.prompt_fields import PROMPT_ORDERS, ChatPromptFields
from app.api.openai.structured import (
    MAX_CALLS,
    StructuredFields,
    ToolCallFields,
    ToolUseFields,
)
from app.api.sampling_fields import SamplingFields
from app.api.unknown_fields import HarmlessValues, ignore_fields
from app.errors import UnsupportedFieldError
from app.inference.requests import MAX_LOGPROBS, ChatMessage

MAX_TOKENS: Final = 1_000_000
MAX_PROMPTS: Final = 128

_TEXT_TYPES: Final = ("text", "refusal")
# Field -> the values that change nothing.
_UNSUPPORTED: Final[HarmlessValues] = {
    **PROMPT_ORDERS,
    "echo": (False,),
    "suffix": ("",),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "prompt_logprobs": (),
    "min_tokens": (0,),
    "bad_words": ([],),
    "allowed_token_ids": ([],),
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "typical_p": (1,),
    "no_repeat_ngram_size": (0,),
    "include_reasoning": (True,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "structural_tag": (),
    "thinking_token_budget": (),
}


def _text_as_part(value: object) -> object:
    """A text is a list of one part. Raises ValueError for parts that are no text."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    for part in value if isinstance(value, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind not in _TEXT_TYPES:
            raise ValueError(f"parts of type {kind!r:.40} are not supported: models here read text")
    return value


def _is_tokens(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def read_prompts(value: object) -> list[str | list[int]]:
    """Return one or more texts or lists of tokens as a list. Raises ValueError, for pydantic."""
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


PromptInput = Annotated[
    list[str | list[int]],
    PlainValidator(
        read_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]
    ),
]


Count = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
NumLogprobs = Annotated[int, Field(ge=0, le=MAX_LOGPROBS)]


class StreamOptions(BaseModel):
    """Of a streamed answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    include_usage: bool = False


class CompletionFields(SamplingFields, StructuredFields):
    """What both dialects say about one generation. `include_timings`, in all of ours, adds
    `timings` to the answer's `usage`.
    """

    model: str = Field(max_length=1000)
    max_tokens: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int | None, Field(ge=1, le=MAX_PROMPTS)] = None
    best_of: int | None = None
    include_timings: bool | None = None

    @property
    def max_new_tokens(self) -> int | None:
        """Tokens to generate at most, if the caller says so."""
        return self.max_tokens

    @property
    def includes_usage(self) -> bool:
        """Whether the stream ends with the numbers of tokens; the timings are among them."""
        options = self.stream_options
        return self.include_timings is True or (options is not None and options.include_usage)

    def ignored_fields(self) -> str:
        """Return the names of fields that had no effect, fit for a header.

        Raises:
            UnsupportedFieldError: one would have changed the answer.
        """
        if self.best_of not in (None, self.n or 1):
            raise UnsupportedFieldError("best_of must equal n: nothing is ranked", "best_of")
        return ignore_fields(self.model_extra, _UNSUPPORTED)


class TextPart(BaseModel):
    """A piece of a message; an assistant may have refused to say something."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    type: Literal["text", "refusal"]
    text: str = Field(default="", validation_alias=AliasChoices("text", "refusal"))


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: Annotated[list[ToolCallFields], Field(max_length=MAX_CALLS)] | None = None
    tool_call_id: str | None = Field(default=None, max_length=200)
    reasoning_content: str | None = None
    content: Annotated[list[TextPart] | None, BeforeValidator(_text_as_part)] = Field(
        default=None, validate_default=True
    )

    @field_validator("tool_calls")
    @classmethod
    def _check_caller(cls, value: object, info: ValidationInfo) -> object:
        if value and info.data.get("role") != "assistant":
            raise ValueError("expected calls only of the assistant")
        return value

    @field_validator("content")
    @classmethod
    def _check_content(cls, value: object, info: ValidationInfo) -> object:
        """Only an assistant that calls tools may have nothing to say."""
        if value is None and not info.data.get("tool_calls"):
            raise ValueError("expected a text or a list of parts")
        return value

    def to_chat(self) -> ChatMessage:
        """Return the message as the engine takes it."""
        return ChatMessage(
            "system" if self.role == "developer" else self.role,
            "".join(part.text for part in self.content or ()),
            tuple(call.to_call() for call in self.tool_calls or ()),
            self.tool_call_id or "",
            (self.reasoning_content or "") if self.role == "assistant" else "",
        )


class ChatFields(CompletionFields, ToolUseFields, ChatPromptFields):
    """The body of `POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: NumLogprobs | None = None

    @field_validator("top_logprobs")
    @classmethod
    def _check_wanted(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise ValueError("expected it only together with logprobs: true")
        return value

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to name beside each token."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def max_new_tokens(self) -> int | None:
        """Tokens to generate at most, by either of its names."""
        return self.max_completion_tokens or self.max_tokens


class TextFields(CompletionFields):
    """The body of `POST /v1/completions`. `prompt` is one text, the tokens of one, or several."""

    prompt: PromptInput
    logprobs: NumLogprobs | None = None

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to name beside each token; this dialect gives their number right away."""
        return self.logprobs
