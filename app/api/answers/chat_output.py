"""What a chat's answer may look like: tools, reasoning and constraints, for all dialects alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from app.errors import BadRequestError
from app.inference.requests import ChatMessage, ChatTool, GenerationRequest, OutputConstraint
from app.output.formats import OutputFormat
from app.output.reasoning import BEGIN, END
from app.serving import OfferedModel
from app.structured.tool_grammars import calls_constraint


@dataclass(frozen=True, slots=True)
class ToolWishes:
    """Which tools there are, and how they may be used.

    Attributes:
        choice: `required` is one call at least.
        name: of the only tool that may be called, with `required`; empty for any.
        is_parallel: whether there may be more than one call in an answer.
    """

    tools: tuple[ChatTool, ...] = ()
    choice: Literal["none", "auto", "required"] = "auto"
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
) -> ChatPlan:
    """Return the plan of one chat.

    Constrained answers have no reasoning: where the template begins it, the prompt ends it.

    Raises:
        TemplateError: the messages cannot be made into a prompt.
        BadRequestError: the wishes contradict each other.
    """
    wishes, style = wishes or ToolWishes(), model.chat_style
    if wishes.forced:
        if constraint is not None:
            raise BadRequestError(
                "tool_choice: a call cannot have a response_format as well", "tool_choice"
            )
        constraint = calls_constraint(style, wishes.forced, is_parallel=wishes.is_parallel)
    elif constraint is not None and wishes.offered:
        raise BadRequestError(
            "response_format: expected tool_choice none or required beside it, "
            "for an answer that must have this form cannot be a call",
            "response_format",
        )
    prompt = await model.render_chat(messages, wishes.offered)
    # Some templates begin the reasoning for the model.
    is_thinking = style.has_reasoning and prompt.rstrip().endswith(BEGIN)
    if is_thinking and constraint is not None:
        prompt += f"\n{END}\n\n"
    output = OutputFormat(
        tool_style=style.tool_style if wishes.offered else None,
        tool_names=tuple(tool.name for tool in wishes.offered),
        is_parallel=wishes.is_parallel,
        has_reasoning=style.has_reasoning and constraint is None,
        starts_in_reasoning=is_thinking and constraint is None,
    )
    shown = () if output.is_plain else style.hidden_mark_ids
    return ChatPlan(prompt, await model.encode(prompt), output, constraint, shown)
