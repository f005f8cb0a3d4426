"""Grammars of outputs that are calls of tools, in the style of the model's template. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.inference.chat_templates import ChatStyle
from app.inference.requests import ChatTool, OutputConstraint
from app.structured.trial_process import JSON_OPTIONS

MAX_CALLS: Final = 16
"""In one output that must be calls: a model that likes them would never end."""

_ANY_ARGUMENTS: Final[Mapping[str, Any]] = {"type": "object"}


def calls_constraint(
    style: ChatStyle, tools: Sequence[ChatTool], *, is_parallel: bool
) -> OutputConstraint:
    """Return a constraint under which the output is one call of these tools, or some.

    Args:
        is_parallel: up to `MAX_CALLS`; otherwise just one.
    """
    names = [f"call{index}" for index in range(len(tools))]
    lines = [
        _start(style, is_parallel=is_parallel),
        f"call: {' | '.join(names)}",
        *(_rule(style, name, tool) for name, tool in zip(names, tools, strict=True)),
    ]
    return OutputConstraint("grammar", "\n".join(lines))


def _start(style: ChatStyle, *, is_parallel: bool) -> str:
    more = f"{{0,{MAX_CALLS - 1}}}"
    match style.tool_style:
        case "hermes":
            one = f'{_mark(style, "<tool_call>")} "\\n" call "\\n" {_mark(style, "</tool_call>")}'
            return f'start: one ("\\n" one){more}\none: {one}' if is_parallel else f"start: {one}"
        case "mistral":
            calls = f'call (", " call){more}' if is_parallel else "call"
            return f'start: {_mark(style, "[TOOL_CALLS]")} "[" {calls} "]"'
        case "llama":
            return f'start: call ("; " call){more}' if is_parallel else "start: call"


def _rule(style: ChatStyle, name: str, tool: ChatTool) -> str:
    key = "parameters" if style.tool_style == "llama" else "arguments"
    head = f'{{"name": {json.dumps(tool.name)}, "{key}": '
    schema = {**(tool.parameters or _ANY_ARGUMENTS), "x-guidance": JSON_OPTIONS}
    arguments = json.dumps(schema)
    return f'{name}: {json.dumps(head)} {name}_arguments "}}"\n{name}_arguments: %json {arguments}'


def _mark(style: ChatStyle, text: str) -> str:
    """A mark that is a token is meant as that token, for so the model has learned it."""
    token_id = style.mark_ids.get(text)
    return json.dumps(text) if token_id is None else f"<[{token_id}]>"
