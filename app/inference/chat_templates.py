"""From chat messages to a prompt, by the template that comes with the model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from jinja2.exceptions import TemplateError as JinjaError

from app.inference.chat_sandbox import BoundError, ChatSandbox
from app.inference.errors import TemplateError
from app.inference.plain_tools import spell_out_tools
from app.inference.requests import ChatMessage, ChatTool
from app.output.formats import ToolStyle, marks_reasoning, style_of_template

Role = Literal["system", "user", "assistant", "tool"]

MAX_MESSAGES: Final = 1024
MAX_CHARACTERS: Final = 1024 * 1024
MAX_S: Final = 2.0
_MAX_REASON_CHARACTERS: Final = 200
_MARKS: Final = (
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[CALL_ID]",
    "[ARGS]",
    "<|python_tag|>",
    "<think>",
    "</think>",
)


@dataclass(frozen=True, slots=True)
class ChatStyle:
    """How a model writes what is not plain text.

    Attributes:
        tool_style: of its calls. Models whose template knows no tools are told about them in
            Hermes' words.
        has_reasoning: it may think before it answers.
        mark_ids: marks that are single tokens, by their text.
        hidden_mark_ids: those of them that are special, and so do not appear as text.
    """

    tool_style: ToolStyle = "hermes"
    has_reasoning: bool = False
    mark_ids: Mapping[str, int] = field(default_factory=dict)
    hidden_mark_ids: tuple[int, ...] = ()

    @property
    def bound(self) -> "ChatStyle":
        """The style of calls that a grammar binds: one that it can keep to the schemas of tools."""
        return replace(self, tool_style="hermes") if self.tool_style == "qwen_coder" else self


def style_of(template: "ChatTemplate", added_tokens: Mapping[int, Any]) -> ChatStyle:
    """Return how the model of a template writes.

    Args:
        added_tokens: of its tokenizer, by id, as the tokenizers library has them.
    """
    marks = {token.content: id_ for id_, token in added_tokens.items() if token.content in _MARKS}
    return ChatStyle(
        template.tool_style,
        template.has_reasoning,
        marks,
        tuple(id_ for id_ in marks.values() if added_tokens[id_].special),
    )


class ChatTemplate:
    """The template of one model. Threads may share it.

    Args:
        templates: sources by name; `default`, and perhaps `tool_use`. Empty if there is none.
        special_tokens: names that templates know them by, such as `bos_token`.
    """

    def __init__(
        self,
        templates: Mapping[str, str],
        special_tokens: Mapping[str, str],
        *,
        max_s: float = MAX_S,
    ) -> None:
        self._templates = templates
        self._special_tokens = special_tokens
        self._max_s = max_s
        self._compiled: dict[str, ChatSandbox] = {}
        source = "\n".join(templates.values())
        style = style_of_template(source)
        self.tool_style: ToolStyle = style or "hermes"
        self.knows_tools = style is not None
        self.has_reasoning = marks_reasoning(source)

    def render(self, messages: Sequence[ChatMessage], tools: Sequence[ChatTool] = ()) -> str:
        """Return the prompt up to where the model's answer begins, special tokens as text.

        It blocks for milliseconds, and for `MAX_S` at worst.

        Raises:
            TemplateError: no messages, too many, too long, an unknown role, a model without a chat
                template, or a template that refuses the messages.
        """
        _check_messages(messages)
        _check_size(messages, tools)
        if not self._templates:
            raise TemplateError("this model has no chat template; send it a plain prompt instead")
        if not self.knows_tools:
            messages, tools = spell_out_tools(messages, tools), ()
        names = {
            **self._special_tokens,
            "messages": [_message_json(message) for message in messages],
            "tools": [tool_json(tool) for tool in tools] or None,
            "documents": None,
            "add_generation_prompt": True,
        }
        try:
            return self._sandbox(has_tools=bool(tools)).render(names)
        except BoundError as error:
            raise TemplateError(f"the chat template of this model is cut off: {error}") from error
        except RecursionError as error:
            raise TemplateError("the chat template of this model calls itself") from error
        except (JinjaError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            reason = " ".join(str(error).split())[:_MAX_REASON_CHARACTERS]
            raise TemplateError(
                f"the chat template of this model refuses the messages: {reason}"
            ) from error

    def _sandbox(self, *, has_tools: bool) -> ChatSandbox:
        names = ("tool_use", "default") if has_tools else ("default", "tool_use")
        name = next((name for name in names if name in self._templates), "")
        if not name:
            raise ValueError("there is none for chats")
        if name not in self._compiled:
            self._compiled[name] = ChatSandbox(
                self._templates[name], max_size=2 * MAX_CHARACTERS, max_s=self._max_s
            )
        return self._compiled[name]


def tool_json(tool: ChatTool) -> dict[str, Any]:
    """Return a tool as templates know it, which is OpenAI's form."""
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    return {"type": "function", "function": function}


def _message_json(message: ChatMessage) -> dict[str, Any]:
    """Return a message as templates know it; arguments of calls are values there, not text."""
    value: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        value["reasoning_content"] = message.reasoning
    if message.tool_calls:
        value["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _parsed(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        value["tool_call_id"] = message.tool_call_id
    return value


def _parsed(arguments: str) -> object:
    try:
        value: object = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value


def _check_messages(messages: Sequence[ChatMessage]) -> None:
    if not messages:
        raise TemplateError("there must be at least one message")
    if len(messages) > MAX_MESSAGES:
        raise TemplateError(f"there are {len(messages)} messages, more than {MAX_MESSAGES}")
    roles = get_args(Role)
    for index, message in enumerate(messages):
        if message.role not in roles:
            raise TemplateError(
                f"message {index} has the unknown role {message.role!r:.40}; "
                f"known roles: {', '.join(roles)}"
            )


def _check_size(messages: Sequence[ChatMessage], tools: Sequence[ChatTool]) -> None:
    num_characters = sum(
        len(message.content)
        + len(message.reasoning)
        + sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
        for message in messages
    )
    if num_characters > MAX_CHARACTERS:
        raise TemplateError(
            f"the messages have {num_characters} characters, more than {MAX_CHARACTERS}"
        )
    num_characters = sum(len(json.dumps(tool_json(tool))) for tool in tools)
    if num_characters > MAX_CHARACTERS:
        raise TemplateError(
            f"the tools have {num_characters} characters, more than {MAX_CHARACTERS}"
        )
