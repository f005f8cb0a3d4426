"""Tools for models whose chat template knows none: told in the system message, in Hermes' words.

Source: the prompt of Hermes 2 Pro for function calling (Nous Research), which Qwen's templates use
as well.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from app.inference.requests import ChatMessage, ChatTool, ChatToolCall

_TOLD: Final = """\
You may call functions to help with the user's request. Their signatures are within <tools></tools>:
<tools>
{signatures}
</tools>
For each call return a JSON object with name and arguments within <tool_call></tool_call>:
<tool_call>
{{"name": <function name>, "arguments": <arguments as a JSON object>}}
</tool_call>"""


def spell_out_tools(
    messages: Sequence[ChatMessage], tools: Sequence[ChatTool]
) -> list[ChatMessage]:
    """Return messages of the plain roles alone, which say the same in words."""
    plain = [_spell_out(message) for message in messages]
    if not tools:
        return plain
    signatures = "\n".join(_signature(tool) for tool in tools)
    told = _TOLD.format(signatures=signatures)
    if plain and plain[0].role == "system":
        return [replace(plain[0], content=f"{plain[0].content}\n\n{told}"), *plain[1:]]
    return [ChatMessage("system", told), *plain]


def _signature(tool: ChatTool) -> str:
    signature = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    return json.dumps(signature, ensure_ascii=False)


def _spell_out(message: ChatMessage) -> ChatMessage:
    if message.role == "tool":
        text = f"<tool_response>\n{message.content}\n</tool_response>"
        return ChatMessage("user", text)
    if not message.tool_calls:
        return message
    calls = [_spell_out_call(call) for call in message.tool_calls]
    return ChatMessage(message.role, "\n".join([message.content, *calls]).strip())


def _spell_out_call(call: ChatToolCall) -> str:
    text = f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}'
    return f"<tool_call>\n{text}\n</tool_call>"
