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
from app.api.openai.prompt_fields import EffortWord
from app.api.openai.structured import schema_constraint
from app.api.unknown_fields import HarmlessValues, ignore_fields
from app.errors import BadRequestError
from app.inference.chat_templates import ChatStyle
from app.inference.requests import ChatMessage, OutputConstraint, PromptWishes
from app.serving import OfferedModel
from swarm_client.generation.parameters import SamplingParameters

MAX_MESSAGES: Final = 10_000
MAX_TOKENS: Final = 1_000_000
_MAX_STOPS: Final = 16

# Field -> the values that change nothing.
_UNSUPPORTED: Final[HarmlessValues] = {
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

    role: Literal["user", "assistant", "system"]
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
    effort: EffortWord | None = None

    def constraint(self) -> OutputConstraint | None:
        """Return the format as the engine takes it."""
        return None if self.format is None else schema_constraint(self.format.definition)


class ThinkingFields(BaseModel):
    """Whether to think before the answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None

    @property
    def is_wanted(self) -> bool | None:
        """Whether to think; None leaves it to the model."""
        return {"enabled": True, "disabled": False}.get(self.type)


class PromptFields(BaseModel):
    """The body of `POST /v1/messages/count_tokens`, and what all bodies begin with."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    model: str = Field(max_length=1000)
    messages: list[Turn] = Field(min_length=1, max_length=MAX_MESSAGES)
    system: System | None = None
    tools: Tools | None = None
    tool_choice: ToolChoiceFields | None = None
    output_config: OutputFields | None = None
    thinking: ThinkingFields | None = None

    def chat(self) -> list[ChatMessage]:
        """Return the messages as the engine takes them; turns of one role in a row are one.

        Raises:
            BadRequestError: the last one cannot be answered, nor be continued.
        """
        end = self.messages[-1]
        if end.role == "assistant" and (end.content.calls or not end.content.text):
            raise BadRequestError(
                "messages: expected the last one to be the user's, or a text to continue",
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

        Raises as `plan_chat` and `read_wishes` do.
        """
        constraint = None if self.output_config is None else self.output_config.constraint()
        wishes = read_wishes(self.tools, self.tool_choice)
        return await plan_chat(model, self.chat(), wishes, constraint, self._prompt_wishes())

    def unheeded_wishes(self, style: ChatStyle) -> list[str]:
        """Return the names of fields that have no effect on a model."""
        names, thinking = [], self.thinking
        if thinking is not None:
            is_wanted = thinking.is_wanted
            has_effect = is_wanted is None or style.heeds_thinking(is_wanted=is_wanted)
            if not has_effect or thinking.type == "between_tools":
                names.append("thinking")
            if thinking.budget_tokens is not None:
                names.append("thinking.budget_tokens")
        if self._effort is not None and not style.heeds_effort:
            names.append("output_config.effort")
        return names

    @property
    def _effort(self) -> str | None:
        return None if self.output_config is None else self.output_config.effort

    def _prompt_wishes(self) -> PromptWishes:
        return PromptWishes(
            continues=self.messages[-1].role == "assistant",
            thinks=None if self.thinking is None else self.thinking.is_wanted,
            effort=self._effort or "",
        )

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
