"""Fields of Anthropic's dialect, and their translation into what the engine takes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from app.api.openai_fields import name_fields
from app.errors import BadRequestError, UnsupportedFieldError
from app.inference.requests import ChatMessage
from swarm_client.generation.parameters import SamplingParameters

MAX_MESSAGES: Final = 10_000
MAX_TOKENS: Final = 1_000_000
_MAX_STOPS: Final = 16
_SILENT_BLOCKS: Final = ("thinking", "redacted_thinking")
"""Of earlier answers; a model does not read its own thoughts again."""

# Field -> the values that change nothing.
_UNSUPPORTED: Final[dict[str, tuple[object, ...]]] = {
    "tools": ([],),
    "tool_choice": ({"type": "none"}, {"type": "auto"}),
    "thinking": ({"type": "disabled"},),
    "output_config": ({},),
    "mcp_servers": ([],),
    "container": (),
}


def _read_content(value: object) -> str:
    """Return the text of a text, or of a list of blocks."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("expected a text or a list of content blocks")
    return "".join(map(_read_block, value))


def _read_block(block: object) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(block, dict) or not isinstance(kind, str):
        raise ValueError("expected content blocks with a type")
    if kind in _SILENT_BLOCKS:
        return ""
    if kind != "text":
        raise ValueError(f"content blocks of type {kind!r:.40} are not supported by this gateway")
    text = block.get("text")
    if not isinstance(text, str):
        raise ValueError("expected a text in a content block of type text")
    return text


Content = Annotated[
    str, PlainValidator(_read_content, json_schema_input_type=str | list[dict[str, Any]])
]


class Turn(BaseModel):
    """One message."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    role: Literal["user", "assistant"]
    content: Content


class PromptFields(BaseModel):
    """The body of `POST /v1/messages/count_tokens`, and what all bodies begin with."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    model: str = Field(max_length=1000)
    messages: list[Turn] = Field(min_length=1, max_length=MAX_MESSAGES)
    system: Content | None = None

    def chat(self) -> list[ChatMessage]:
        """Return the messages as the engine takes them; turns of one role in a row are one.

        Raises:
            BadRequestError: the answer has been begun already.
        """
        if self.messages[-1].role == "assistant":
            raise BadRequestError(
                "messages: expected the last one to be the user's; "
                "this gateway does not continue messages of the assistant",
                "messages",
            )
        merged = [ChatMessage("system", self.system)] if self.system else []
        for turn in self.messages:
            if merged and merged[-1].role == turn.role:
                merged[-1] = ChatMessage(turn.role, f"{merged[-1].content}\n\n{turn.content}")
            else:
                merged.append(ChatMessage(turn.role, turn.content))
        return merged

    def ignored_fields(self) -> str:
        """Return the names of fields that had no effect, fit for a header.

        Raises:
            UnsupportedFieldError: one would have changed the answer.
        """
        extra = self.model_extra or {}
        for name, value in extra.items():
            harmless = _UNSUPPORTED.get(name)
            if harmless is not None and value is not None and value not in harmless:
                raise UnsupportedFieldError(f"{name} is not supported by this gateway", name)
        return name_fields(name for name in extra if name not in _UNSUPPORTED)


def _none_is_empty(value: object) -> object:
    return [] if value is None else value


class MessageFields(PromptFields):
    """The body of `POST /v1/messages`."""

    max_tokens: int = Field(ge=1, le=MAX_TOKENS)
    stream: bool | None = None
    stop_sequences: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1000)]],
        Field(max_length=_MAX_STOPS),
        BeforeValidator(_none_is_empty),
    ] = []
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = None
    top_k: Annotated[int | None, Field(ge=0)] = None

    def sampling(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the sampling numbers: the caller's, else the model's; temperature 0 is greedy.

        Raises:
            InvalidParametersError: one is out of range.
        """
        names: Sequence[str] = ("temperature", "top_p", "top_k")
        given: dict[str, Any] = {n: v for n in names if (v := getattr(self, n)) is not None}
        if given.get("temperature") == 0:
            del given["temperature"]
            given["do_sample"] = False
        elif given:
            given["do_sample"] = True
        return replace(defaults, seed=None, **given)
