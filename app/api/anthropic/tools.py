"""Tools in Anthropic's dialect: their fields, and the content blocks of calls and results."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.answers.chat_output import ToolChoice, ToolWishes, tool_wishes
from app.api.openai.structured import MAX_TOOLS, ToolName
from app.errors import BadRequestError
from app.inference.requests import ChatMessage, ChatTool, ChatToolCall

_SILENT_BLOCKS: Final = ("thinking", "redacted_thinking")
"""Of earlier answers; a model does not read its own thoughts again."""
_CHOICES: Final[dict[str, ToolChoice]] = {
    "auto": "auto",
    "any": "required",
    "tool": "required",
    "none": "none",
}


@dataclass(frozen=True, slots=True)
class TurnContent:
    """What one message says, calls, and answers to calls of the message before it."""

    text: str = ""
    calls: tuple[ChatToolCall, ...] = ()
    results: tuple[ChatMessage, ...] = ()


class ToolFields(BaseModel):
    """One of `tools`: a client's own; Anthropic's server tools have another `type`."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    type: Literal["custom"] = "custom"
    name: ToolName
    description: str | None = None
    input_schema: dict[str, Any]

    def to_tool(self) -> ChatTool:
        """Return the tool as the engine takes it."""
        return ChatTool(self.name, self.description or "", self.input_schema)


class ToolChoiceFields(BaseModel):
    """Whether tools may be called, must be, and which."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


Tools = Annotated[list[ToolFields], Field(max_length=MAX_TOOLS)]


def read_wishes(tools: list[ToolFields] | None, choice: ToolChoiceFields | None) -> ToolWishes:
    """Return which tools there are, and how they may be used. Raises as `tool_wishes` does."""
    offered = [tool.to_tool() for tool in tools or ()]
    if choice is None:
        return tool_wishes(offered, "auto")
    if choice.type == "tool" and not choice.name:
        raise BadRequestError("tool_choice.name: expected one of tools", "tool_choice.name")
    return tool_wishes(
        offered,
        _CHOICES[choice.type],
        name=(choice.name or "") if choice.type == "tool" else "",
        is_parallel=choice.disable_parallel_tool_use is not True,
    )


def read_turn(value: object) -> TurnContent:
    """Return the content of a message: a text or a list of blocks. Raises ValueError."""
    if isinstance(value, str):
        return TurnContent(value)
    if not isinstance(value, list):
        raise ValueError("expected a text or a list of content blocks")
    texts, calls, results = [], [], []
    for block in value:
        match _kind(block):
            case "tool_use":
                calls.append(_read_call(block))
            case "tool_result":
                results.append(_read_result(block))
            case _:
                texts.append(read_block(block))
    return TurnContent("".join(texts), tuple(calls), tuple(results))


def read_block(block: object) -> str:
    """Return the text of one block. Raises ValueError if it is of another kind."""
    kind = _kind(block)
    if kind in _SILENT_BLOCKS:
        return ""
    if kind != "text":
        raise ValueError(f"content blocks of type {kind!r:.40} are not supported by this gateway")
    return _text_of(block, "text")


def _read_call(block: Any) -> ChatToolCall:
    arguments = block.get("input")
    if not isinstance(arguments, dict):
        raise ValueError("expected an object as input of a content block of type tool_use")
    text = json.dumps(arguments, ensure_ascii=False)
    return ChatToolCall(_text_of(block, "id"), _text_of(block, "name"), text)


def _read_result(block: Any) -> ChatMessage:
    content = block.get("content") or ""
    if isinstance(content, list):
        content = "".join(map(read_block, content))
    if not isinstance(content, str):
        raise ValueError("expected a text or a list of content blocks in a tool_result")
    return ChatMessage("tool", content, tool_call_id=_text_of(block, "tool_use_id"))


def _kind(block: object) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str):
        raise ValueError("expected content blocks with a type")
    return kind


def _text_of(block: Any, name: str) -> str:
    text = block.get(name)
    if not isinstance(text, str):
        raise ValueError(f"expected a text as {name} of a content block of type {block['type']}")
    return text
