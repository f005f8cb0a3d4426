"""Grammars of outputs that are calls of tools, in the style of the model's template. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.inference.chat_templates import ChatStyle
from app.inference.requests import ChatTool, OutputConstraint
from app.structured.trial_process import JSON_OPTIONS

MAX_CALLS: Final = 16
"""In one output that must be calls: a model that likes them would never end."""

_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}


def calls_constraint(
    style: ChatStyle, tools: Sequence[ChatTool], *, is_parallel: bool
) -> OutputConstraint:
    """Return a constraint under which the output is one call of these tools, or some.

    Args:
        is_parallel: up to `MAX_CALLS`; otherwise just one.
    """
    rules = ["start: calls", *_rules(style, tools, is_parallel=is_parallel)]
    return OutputConstraint("grammar", "\n".join(rules))


def calls_or_answer_constraint(
    style: ChatStyle, tools: Sequence[ChatTool], answer: OutputConstraint, *, is_parallel: bool
) -> OutputConstraint | None:
    """Return a constraint under which the output is calls, or what `answer` allows.

    None if that is a regex or grammar: rules of both might have the same names. What is no schema
    comes back as it is, and is refused where all constraints are looked at.
    """
    match answer.kind:
        case "json_object":
            rule = f"answer: %json {_schema(_ANY_OBJECT)}"
        case "json_schema":
            schema = _parsed(answer.text)
            if not isinstance(schema, dict):
                return answer
            rule = f"answer: %json {_schema(schema)}"
        case "choice":
            choices = _parsed(answer.text)
            if not isinstance(choices, list) or not all(isinstance(it, str) for it in choices):
                return answer
            rule = f"answer: {' | '.join(map(json.dumps, choices))}"
        case "regex" | "grammar":
            return None
    rules = ["start: calls | answer", rule, *_rules(style, tools, is_parallel=is_parallel)]
    return OutputConstraint("grammar", "\n".join(rules))


def _rules(style: ChatStyle, tools: Sequence[ChatTool], *, is_parallel: bool) -> list[str]:
    names = [f"call{index}" for index in range(len(tools))]
    return [
        _calls(style, is_parallel=is_parallel),
        f"call: {' | '.join(names)}",
        *(_rule(style, name, tool) for name, tool in zip(names, tools, strict=True)),
    ]


def _calls(style: ChatStyle, *, is_parallel: bool) -> str:
    more = f"{{0,{MAX_CALLS - 1}}}"
    match style.tool_style:
        case "hermes" | "qwen_coder":  # see `ChatStyle.bound`
            one = f'{_mark(style, "<tool_call>")} "\\n" call "\\n" {_mark(style, "</tool_call>")}'
            return f'calls: one ("\\n" one){more}\none: {one}' if is_parallel else f"calls: {one}"
        case "mistral":
            calls = f'call (", " call){more}' if is_parallel else "call"
            return f'calls: {_mark(style, "[TOOL_CALLS]")} "[" {calls} "]"'
        case "llama":
            return f'calls: call ("; " call){more}' if is_parallel else "calls: call"


def _rule(style: ChatStyle, name: str, tool: ChatTool) -> str:
    key = "parameters" if style.tool_style == "llama" else "arguments"
    head = f'{{"name": {json.dumps(tool.name)}, "{key}": '
    arguments = _schema(tool.parameters or _ANY_OBJECT)
    return f'{name}: {json.dumps(head)} {name}_arguments "}}"\n{name}_arguments: %json {arguments}'


def _schema(schema: Mapping[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": JSON_OPTIONS})


def _parsed(text: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def _mark(style: ChatStyle, text: str) -> str:
    """A mark that is a token is meant as that token, for so the model has learned it."""
    token_id = style.mark_ids.get(text)
    return json.dumps(text) if token_id is None else f"<[{token_id}]>"
