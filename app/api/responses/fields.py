"""Fields of the Responses dialect, and their translation into what the engine takes."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from app.api.openai.prompt_fields import EffortWord, effort_wishes, heeds_effort
from app.api.responses.forms import FormFields, ResponseForm
from app.api.responses.input_items import read_input
from app.api.sampling_fields import SamplingFields
from app.api.unknown_fields import HarmlessValues, ignore_fields
from app.errors import UnsupportedFieldError
from app.inference.chat_templates import ChatStyle
from app.inference.requests import NO_WISHES, ChatMessage, PromptWishes

MAX_TOKENS: Final = 1_000_000
LOGPROBS: Final = "message.output_text.logprobs"
# Field -> the values that change nothing.
_UNSUPPORTED: Final[HarmlessValues] = {
    "conversation": (),
    "prompt": (),
    "context_management": ([],),
    "modalities": (["text"],),
}


class ReasoningWishes(BaseModel):
    """`reasoning`: all that a model thinks is shown, never a summary of it."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    effort: EffortWord | None = None
    summary: str | None = None


_Input = str | Annotated[list[dict[str, Any]], Field(min_length=1)]


class ResponseFields(SamplingFields, FormFields):
    """The body of `POST /v1/responses`."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    model: str = Field(max_length=1000)
    input: Annotated[list[ChatMessage], PlainValidator(read_input, json_schema_input_type=_Input)]
    instructions: str | None = None
    previous_response_id: str | None = Field(default=None, max_length=100)
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    reasoning: ReasoningWishes | None = None
    truncation: Literal["auto", "disabled"] | None = None
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

    def prompt_wishes(self) -> PromptWishes:
        """Return what is wanted of the prompt, as the engine takes it."""
        return effort_wishes(self._effort, NO_WISHES)

    def unheeded_wishes(self, style: ChatStyle) -> list[str]:
        """Return the names of fields that have no effect on a model.

        What does not fit is refused, so nothing is ever left out as `truncation` would allow.
        """
        unheeded = {
            "truncation": self.truncation == "auto",
            "reasoning.effort": not heeds_effort(self._effort, style),
            "reasoning.summary": self.reasoning is not None and self.reasoning.summary is not None,
            "text.verbosity": self.text is not None and self.text.verbosity in ("low", "high"),
        }
        return [name for name, is_unheeded in unheeded.items() if is_unheeded]

    @property
    def _effort(self) -> str | None:
        return None if self.reasoning is None else self.reasoning.effort


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
    form: ResponseForm = ResponseForm()
    is_stored: bool = True
    is_background: bool = False
