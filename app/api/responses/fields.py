"""Fields of the Responses dialect, and their translation into what the engine takes."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from app.api.responses.forms import FormFields, ResponseForm
from app.api.responses.input_items import read_input
from app.api.sampling_fields import SamplingFields
from app.api.unknown_fields import HarmlessValues, ignore_fields
from app.errors import UnsupportedFieldError
from app.inference.requests import ChatMessage

MAX_TOKENS: Final = 1_000_000
LOGPROBS: Final = "message.output_text.logprobs"
# Field -> the values that change nothing.
_UNSUPPORTED: Final[HarmlessValues] = {
    "truncation": ("disabled",),
    "conversation": (),
    "prompt": (),
    "context_management": ([],),
    "modalities": (["text"],),
}


_Input = str | Annotated[list[dict[str, Any]], Field(min_length=1)]


class ResponseFields(SamplingFields, FormFields):
    """The body of `POST /v1/responses`."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    model: str = Field(max_length=1000)
    input: Annotated[list[ChatMessage], PlainValidator(read_input, json_schema_input_type=_Input)]
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
    form: ResponseForm = ResponseForm()
    is_stored: bool = True
    is_background: bool = False
