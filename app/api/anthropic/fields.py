"""Fields of Anthropic's dialect, and their translation into what the engine takes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from app.api.answers.chat_output import ChatPlan, plan_chat
from app.api.anthropic.tools import (
    ToolChoiceFields,
    Tools,
    TurnContent,
    read_block,
    read_turn,
    read_wishes,
)
from app.api.openai.structured import schema_constraint
from app.api.unknown_fields import HarmlessValues, ignore_fields
from app.errors import BadRequestError, UnsupportedFieldError
from app.inference.requests import ChatMessage, OutputConstraint
from app.serving import OfferedModel
from swarm_client.generation.parameters import SamplingParameters

MAX_MESSAGES: Final = 10_000
MAX_TOKENS: Final = 1_000_000
_MAX_STOPS: Final = 16

# Field -> the values that change nothing.
_UNSUPPORTED: Final[HarmlessValues] = {
    "thinking": ({"type": "disabled"},),
    "mcp_servers": ([],),
    "container": (),
}


def _read_system(value: object) -> str:
    """Return the text of a text, or of a list of blocks."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("expected a text or a list of content blocks")
    return "".join(map(read_block, value))


Blocks = str | list[dict[str, Any]]
System = Annotated[str, PlainValidator(_read_system, json_schema_input_type=Blocks)]
Content = Annotated[TurnContent, PlainValidator(read_turn, json_schema_input_type=Blocks)]


class Turn(BaseModel):
    """One message."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    role: Literal["user", "assistant"]
    content: Content


class JsonFormat(BaseModel):
    """A schema that the text keeps to."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    type: Literal["json_schema"]
    definition: dict[str, Any] = Field(alias="schema")


class OutputFields(BaseModel):
    """`output_config`: what the text looks like, where it is no call of a tool."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    format: JsonFormat | None = None
    effort: str | None = None

    def constraint(self) -> OutputConstraint | None:
        """Return the format as the engine takes it.

        Raises:
            UnsupportedFieldError: more or less effort is wanted.
        """
        if self.effort is not None:
            name = "output_config.effort"
            raise UnsupportedFieldError(f"{name} is not supported by this gateway", name)
        return None if self.format is None else schema_constraint(self.format.definition)


class PromptFields(BaseModel):
    """The body of `POST /v1/messages/count_tokens`, and what all bodies begin with."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    model: str = Field(max_length=1000)
    messages: list[Turn] = Field(min_length=1, max_length=MAX_MESSAGES)
    system: System | None = None
    tools: Tools | None = None
    tool_choice: ToolChoiceFields | None = None
    output_config: OutputFields | None = None

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
            merged += turn.content.results
            message = ChatMessage(turn.role, turn.content.text, turn.content.calls)
            last = merged[-1] if merged else None
            if not message.content and turn.content.results:
                continue
            if last is not None and last.role == turn.role and not last.tool_calls:
                merged[-1] = replace(message, content=f"{last.content}\n\n{message.content}")
            else:
                merged.append(message)
        return merged

    async def plan(self, model: OfferedModel) -> ChatPlan:
        """Return the prompt, and what the answer looks like.

        Raises as `plan_chat`, `read_wishes` and `OutputFields.constraint` do.
        """
        constraint = None if self.output_config is None else self.output_config.constraint()
        wishes = read_wishes(self.tools, self.tool_choice)
        return await plan_chat(model, self.chat(), wishes, constraint)

    def ignored_fields(self) -> str:
        """Return the names of fields that had no effect, fit for a header.

        Raises:
            UnsupportedFieldError: one would have changed the answer.
        """
        return ignore_fields(self.model_extra, _UNSUPPORTED)


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
    include_timings: bool | None = None

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
