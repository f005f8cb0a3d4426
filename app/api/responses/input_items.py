"""The `input` of a response: a text or a list of items, read into messages. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from app.inference.requests import ChatMessage, ChatToolCall
from app.validation import kind_of

MAX_ITEMS: Final = 10_000
_ROLES: Final = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
_TEXT_FIELDS: Final = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
}
"""Of each type of part: the field that has its text."""


def read_input(value: object) -> list[ChatMessage]:
    """Return the messages of a text, or of a list of items. Raises ValueError, for pydantic.

    What an assistant says and the calls it makes are several items, and one message.
    """
    if isinstance(value, str):
        return [ChatMessage("user", value)]
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ITEMS:
        raise ValueError(f"expected a text, or a list of up to {MAX_ITEMS} items")
    messages: list[ChatMessage] = []
    for item in value:
        if not isinstance(item, dict):
            raise ValueError(f"expected an object as item, got {kind_of(item)}")
        match item.get("type", "message"):
            case "message":
                messages.append(_read_message(item))
            case "function_call":
                _add_call(messages, _read_call(item))
            case "function_call_output":
                messages.append(_read_result(item))
            case "reasoning":  # models do not read again what they thought
                pass
            case kind:
                raise ValueError(f"items of type {kind!r:.40} are not supported by this gateway")
    return messages


def _read_message(item: Mapping[str, Any]) -> ChatMessage:
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValueError(f"expected one of the roles {', '.join(_ROLES)}")
    return ChatMessage(_ROLES[role], _read_content(item.get("content"), "content"))


def _read_call(item: Mapping[str, Any]) -> ChatToolCall:
    names = ("call_id", "name", "arguments")
    return ChatToolCall(*(_text_of(item, name) for name in names))


def _add_call(messages: list[ChatMessage], call: ChatToolCall) -> None:
    if messages and messages[-1].role == "assistant":
        last = messages[-1]
        messages[-1] = replace(last, tool_calls=(*last.tool_calls, call))
    else:
        messages.append(ChatMessage("assistant", "", (call,)))


def _read_result(item: Mapping[str, Any]) -> ChatMessage:
    output = _read_content(item.get("output"), "output")
    return ChatMessage("tool", output, tool_call_id=_text_of(item, "call_id"))


def _read_content(content: object, name: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"expected a text or a list of parts as {name}")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        field = _TEXT_FIELDS.get(kind) if isinstance(kind, str) else None
        if field is None:
            raise ValueError(f"parts of type {kind!r:.40} are not supported: models here read text")
        if not isinstance(part.get(field), str):
            raise ValueError(f"expected a text in a part of {name}")
        texts.append(part[field])
    return "".join(texts)


def _text_of(item: Mapping[str, Any], name: str) -> str:
    text = item.get(name)
    if not isinstance(text, str):
        raise ValueError(f"expected a text as {name} of an item of type {item['type']}")
    return text
