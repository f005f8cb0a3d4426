"""From chat messages to a prompt, by the template that comes with the model."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from jinja2.exceptions import TemplateError as JinjaError

from app.inference.chat_sandbox import BoundError, ChatSandbox
from app.inference.errors import TemplateError
from app.inference.plain_tools import spell_out_tools
from app.inference.requests import NO_WISHES, ChatMessage, ChatTool, PromptWishes
from app.output.formats import ToolStyle, marks_reasoning, style_of_template

Role = Literal["system", "user", "assistant", "tool"]

MAX_MESSAGES: Final = 1024
MAX_CHARACTERS: Final = 1024 * 1024
MAX_S: Final = 2.0
_THINKING: Final = ("enable_thinking", "thinking")
_EFFORT: Final = "reasoning_effort"
_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_CUT: Final = "\ue000cut here\ue001"
"""Stands where a message is to be continued; of characters that no text has."""
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
        template_words: all names in its template; a variable that is none of them does nothing.
    """

    tool_style: ToolStyle = "hermes"
    has_reasoning: bool = False
    mark_ids: Mapping[str, int] = field(default_factory=dict)
    hidden_mark_ids: tuple[int, ...] = ()
    template_words: frozenset[str] = frozenset()

    def heeds_thinking(self, *, is_wanted: bool) -> bool:
        """Return whether a wish to think, or not to, has an effect.

        Who always thinks can be kept from it: the prompt ends the reasoning at once.
        """
        knows = any(name in self.template_words for name in _THINKING)
        return knows or self.has_reasoning or not is_wanted

    @property
    def heeds_effort(self) -> bool:
        """Whether a wish to think more or less has an effect."""
        return _EFFORT in self.template_words

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
        template.words,
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
        self.words = frozenset(_WORD.findall(source))

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ChatTool] = (),
        wishes: PromptWishes = NO_WISHES,
    ) -> str:
        """Return the prompt up to where the model's answer begins, special tokens as text.

        It blocks for milliseconds, and for `MAX_S` at worst.

        Raises:
            TemplateError: no messages, too many, too long, an unknown role, a model without a chat
                template, a template that refuses the messages, a variable that is not the
                caller's to set, or a last message that cannot be continued.
        """
        _check_messages(messages)
        _check_size(messages, tools)
        if not self._templates:
            raise TemplateError("this model has no chat template; send it a plain prompt instead")
        if wishes.continues:
            messages = [*messages[:-1], _with_cut(messages[-1])]
        if not self.knows_tools:
            messages, tools = spell_out_tools(messages, tools), ()
        names = {
            **self._special_tokens,
            "messages": [_message_json(message) for message in messages],
            "tools": [tool_json(tool) for tool in tools] or None,
            "documents": None,
            "add_generation_prompt": not wishes.continues,
        }
        for name in wishes.variables:
            if name in names:
                raise TemplateError(f"the variable {name!r:.40} is set by the gateway")
        names = {**_thinking_variables(wishes), **wishes.variables, **names}
        prompt = self._render(names, has_tools=bool(tools))
        return _up_to_cut(prompt) if wishes.continues else prompt

    def _render(self, names: Mapping[str, Any], *, has_tools: bool) -> str:
        try:
            return self._sandbox(has_tools=has_tools).render(names)
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


def _thinking_variables(wishes: PromptWishes) -> dict[str, Any]:
    """Return what templates may look at; those of one family do not know the names of others."""
    values: dict[str, Any] = {}
    if wishes.thinks is not None:
        values = dict.fromkeys(_THINKING, wishes.thinks)
    if wishes.effort:
        values[_EFFORT] = wishes.effort
    return values


def _with_cut(last: ChatMessage) -> ChatMessage:
    if last.role != "assistant" or last.tool_calls or not last.content:
        raise TemplateError("only a text of the assistant can be continued")
    return replace(last, content=last.content + _CUT)


def _up_to_cut(prompt: str) -> str:
    """Return what stands before the only cut."""
    before, _, behind = prompt.partition(_CUT)
    if _CUT in behind or len(before) == len(prompt):
        raise TemplateError("the chat template of this model cannot continue a message")
    return before


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
