"""What a chat's answer may look like: tools, reasoning and constraints, for all dialects alike."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from app.errors import BadRequestError
from app.inference.chat_templates import ChatStyle
from app.inference.requests import (
    NO_WISHES,
    ChatMessage,
    ChatTool,
    GenerationRequest,
    OutputConstraint,
    PromptWishes,
)
from app.output.formats import OutputFormat, text_parameters
from app.output.reasoning import BEGIN, END
from app.serving import OfferedModel
from app.structured.tool_grammars import calls_constraint, calls_or_answer_constraint

ToolChoice: TypeAlias = Literal["none", "auto", "required"]


@dataclass(frozen=True, slots=True)
class ToolWishes:
    """Which tools there are, and how they may be used.

    Attributes:
        choice: `required` is one call at least.
        name: of the only tool that may be called, with `required`; empty for any.
        is_parallel: whether there may be more than one call in an answer.
    """

    tools: tuple[ChatTool, ...] = ()
    choice: ToolChoice = "auto"
    name: str = ""
    is_parallel: bool = True

    @property
    def offered(self) -> tuple[ChatTool, ...]:
        """The tools that the model is told about."""
        return () if self.choice == "none" else self.tools

    @property
    def forced(self) -> tuple[ChatTool, ...]:
        """The tools of which one must be called; empty if none must."""
        if self.choice != "required":
            return ()
        return tuple(tool for tool in self.tools if self.name in ("", tool.name))


def tool_wishes(
    tools: Sequence[ChatTool],
    choice: ToolChoice,
    *,
    name: str = "",
    allowed: Collection[str] | None = None,
    is_parallel: bool = True,
) -> ToolWishes:
    """Return wishes that make sense. See `ToolWishes` for what they are.

    Args:
        allowed: names of the tools that count; None for all.

    Raises:
        BadRequestError: a tool is there twice, or a chosen one is not there.
    """
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise BadRequestError("tools: expected each name once", "tools")
    chosen = [name] if name else allowed or ()
    missing = next((each for each in chosen if each not in names), None)
    if choice == "required" and not tools:
        raise BadRequestError("tool_choice: expected some tools", "tool_choice")
    if missing is not None:
        raise BadRequestError(f"tool_choice: expected {missing} to be one of tools", "tool_choice")
    if allowed is not None:
        tools = [tool for tool in tools if tool.name in allowed]
    return ToolWishes(tuple(tools), choice, name, is_parallel and not name)


@dataclass(frozen=True, slots=True)
class ChatPlan:
    """The prompt of a chat, and what its answer looks like."""

    prompt: str
    prompt_ids: list[int]
    output: OutputFormat
    constraint: OutputConstraint | None = None
    shown_special_ids: tuple[int, ...] = ()

    def applied(self, request: GenerationRequest) -> GenerationRequest:
        """Return a request whose output is of this kind."""
        return replace(
            request, constraint=self.constraint, shown_special_ids=self.shown_special_ids
        )


async def plan_chat(
    model: OfferedModel,
    messages: Sequence[ChatMessage],
    wishes: ToolWishes | None = None,
    constraint: OutputConstraint | None = None,
    prompt_wishes: PromptWishes = NO_WISHES,
) -> ChatPlan:
    """Return the plan of one chat.

    Constrained answers have no reasoning, nor have those of which none is wanted: where the
    template begins it, the prompt ends it.

    Raises:
        TemplateError: the messages cannot be made into a prompt.
        BadRequestError: an answer of this form cannot be a call.
    """
    wishes, style = wishes or ToolWishes(), model.chat_style
    if wishes.forced or constraint is not None:
        style = style.bound
    if wishes.forced:  # there is no text that the other constraint could be for
        constraint = calls_constraint(style, wishes.forced, is_parallel=wishes.is_parallel)
    elif constraint is not None and wishes.offered:
        constraint = _calls_or(constraint, style, wishes)
    prompt = await model.render_chat(messages, wishes.offered, prompt_wishes)
    # Some templates begin the reasoning for the model.
    is_thinking = style.has_reasoning and prompt.rstrip().endswith(BEGIN)
    if is_thinking and (constraint is not None or prompt_wishes.thinks is False):
        prompt += f"\n{END}\n\n"
        is_thinking = False
    output = _format(style, wishes, may_think=constraint is None, starts_in_reasoning=is_thinking)
    shown = () if output.is_plain else style.hidden_mark_ids
    return ChatPlan(prompt, await model.encode(prompt), output, constraint, shown)


def _format(
    style: ChatStyle, wishes: ToolWishes, *, may_think: bool, starts_in_reasoning: bool
) -> OutputFormat:
    return OutputFormat(
        tool_style=style.tool_style if wishes.offered else None,
        tool_names=tuple(tool.name for tool in wishes.offered),
        text_parameters=tuple(
            parameter
            for tool in (wishes.offered if style.tool_style == "qwen_coder" else ())
            for parameter in text_parameters(tool.name, tool.parameters)
        ),
        is_parallel=wishes.is_parallel,
        has_reasoning=style.has_reasoning and may_think,
        starts_in_reasoning=starts_in_reasoning,
    )


def _calls_or(
    constraint: OutputConstraint, style: ChatStyle, wishes: ToolWishes
) -> OutputConstraint:
    both = calls_or_answer_constraint(
        style, wishes.offered, constraint, is_parallel=wishes.is_parallel
    )
    if both is None:
        raise BadRequestError(
            f"tools: expected tool_choice none or required beside a {constraint.kind}, "
            "for an answer that must have this form cannot be a call",
            "tools",
        )
    return both
