"""Fields of the Responses dialect, and their translation into what the engine takes."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from app.api.sampling_fields import SamplingFields
from app.api.unknown_fields import HarmlessValues, ignore_fields
from app.errors import UnsupportedFieldError
from app.inference.requests import ChatMessage

MAX_TOKENS: Final = 1_000_000
MAX_ITEMS: Final = 10_000
LOGPROBS: Final = "message.output_text.logprobs"
_ROLES: Final = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
_TEXT_TYPES: Final = ("input_text", "output_text", "text")

# Field -> the values that change nothing.
_UNSUPPORTED: Final[HarmlessValues] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "text": ({"format": {"type": "text"}}, {}),
    "truncation": ("disabled",),
    "conversation": (),
    "prompt": (),
    "context_management": ([],),
    "modalities": (["text"],),
}


_Input = str | Annotated[list[dict[str, Any]], Field(min_length=1)]


def _read_input(value: object) -> list[ChatMessage]:
    """Return the messages of a text, or of a list of items."""
    if isinstance(value, str):
        return [ChatMessage("user", value)]
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ITEMS:
        raise ValueError(f"expected a text, or a list of up to {MAX_ITEMS} items")
    return [message for item in value if (message := _read_item(item)) is not None]


def _read_item(item: object) -> ChatMessage | None:
    """Return a message; None for what models do not read again."""
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if kind == "reasoning":
        return None
    if not isinstance(item, dict) or kind != "message":
        raise ValueError(f"items of type {kind!r:.40} are not supported by this gateway")
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValueError(f"expected one of the roles {', '.join(_ROLES)}")
    return ChatMessage(_ROLES[role], _read_content(item.get("content")))


def _read_content(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("expected a text or a list of parts as content")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or kind not in _TEXT_TYPES:
            raise ValueError(f"parts of type {kind!r:.40} are not supported by this gateway")
        if not isinstance(part.get("text"), str):
            raise ValueError("expected a text in a part of content")
        texts.append(part["text"])
    return "".join(texts)


class ResponseFields(SamplingFields):
    """The body of `POST /v1/responses`."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    model: str = Field(max_length=1000)
    input: Annotated[list[ChatMessage], PlainValidator(_read_input, json_schema_input_type=_Input)]
    instructions: str | None = None
    previous_response_id: str | None = Field(default=None, max_length=100)
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    include: Annotated[list[str], Field(max_length=20)] | None = None
    metadata: dict[str, str] | None = Field(default=None, max_length=16)
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    include_timings: bool | None = None

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives beside each token; None for no log-probabilities."""
        if LOGPROBS not in (self.include or ()) and self.top_logprobs is None:
            return None
        return self.top_logprobs or 0

    @property
    def is_stored(self) -> bool:
        """Whether the response may be retrieved later; by default it may."""
        return self.store is not False

    def ignored_fields(self) -> str:
        """Return the names of fields that had no effect, fit for a header.

        Raises:
            UnsupportedFieldError: one would have changed the answer.
        """
        if self.background and not self.is_stored:
            raise UnsupportedFieldError("background: needs a response that is stored", "background")
        return ignore_fields(self.model_extra, _UNSUPPORTED)


class ResponseDetails(BaseModel):
    """What a response tells of its request; kept in its journal.

    `messages` are all it was asked, without the instructions.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    messages: tuple[ChatMessage, ...]
    instructions: str | None = None
    previous_response_id: str | None = None
    metadata: dict[str, str] = {}
    max_output_tokens: int | None = None
    is_stored: bool = True
    is_background: bool = False
