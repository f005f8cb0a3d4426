"""Answers of `POST /v1/messages` as bytes. Pure.

    message_start  ( content_block_start  content_block_delta …  content_block_stop ) …
    message_delta  message_stop

A block begins with its first delta: an answer may begin with a thought, and one without text has
no block at all.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, assert_never

import orjson

from app.api.answers.choices import ChoiceReader, Said, ToolCall, WholeChoice
from app.api.answers.writer import TokenBytes
from app.api.anthropic.errors import error_json
from app.errors import ErrorReply
from app.inference.requests import FinishReason
from app.journals.entries import AnswerBegun, Produced
from app.observability.time_spent import Timings
from app.output.parts import OutputPart, ReasoningPart, TextPart, ToolCallPart

Json = dict[str, object]

_MARK: Final = "\0"
_MARK_JSON: Final = orjson.dumps(_MARK)
_TEXT: Final = "text"


class MessageWriter:
    """`AnswerWriter` of a message: events with names."""

    def __init__(self, begun: AnswerBegun, token_bytes: TokenBytes) -> None:
        self._begun = begun
        self._reader = ChoiceReader(begun)
        self._stop_text: str | None = None
        self._block: str | None = None  # what the open block is, if one is open
        self._index = -1  # of the block that was opened last
        self._around = (b"", b"")

    def begin(self) -> bytes:
        """Return the message without content."""
        message = _message(self._begun, [], output_tokens=0)
        return _event("message_start", {"message": message})

    def write(self, entry: Produced) -> bytes:
        """Return the events of some new tokens."""
        reader = self._reader
        if not reader.is_plain or self._block != _TEXT or entry.finish_reason is not None:
            return self._write_parts(entry)
        reader.note(entry)
        if not entry.text:
            return b""
        head, tail = self._around
        return head + orjson.dumps(entry.text) + tail

    def finish(self, timings: Timings | None) -> bytes:
        """Return the end of the block, why the message ends, and the numbers of tokens."""
        delta: Json = {
            "stop_reason": stop_reason(self._reader, self._stop_text),
            "stop_sequence": self._stop_text,
        }
        usage: Json = {"output_tokens": self._reader.num_tokens, **_timed(timings)}
        return (
            self._close_block()
            + _event("message_delta", {"delta": delta, "usage": usage})
            + _event("message_stop", {})
        )

    def fail(self, reply: ErrorReply) -> bytes:
        """Return the error; nothing follows it."""
        return self.error(reply)

    def error(self, reply: ErrorReply) -> bytes:
        """Return the error."""
        return _event("error", error_json(reply))

    def _write_parts(self, entry: Produced) -> bytes:
        text, self._stop_text = split_stop(self._begun, entry.text, entry.finish_reason)
        parts = self._reader.read(replace(entry, text=text))
        return b"".join(map(self._part, parts))

    def _part(self, part: OutputPart) -> bytes:
        match part:
            case TextPart():
                opened = self._open_block(_TEXT, {"type": "text", "text": ""})
                return opened + self._delta({"type": "text_delta", "text": part.text})
            case ReasoningPart():
                block: Json = {"type": "thinking", "thinking": "", "signature": ""}
                opened = self._open_block("thinking", block)
                return opened + self._delta({"type": "thinking_delta", "thinking": part.text})
            case ToolCallPart():
                block = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
                opened = self._open_block(f"tool {part.index}", block)
                if not part.arguments_delta:
                    return opened
                delta: Json = {"type": "input_json_delta", "partial_json": part.arguments_delta}
                return opened + self._delta(delta)
            case _:
                assert_never(part)

    def _open_block(self, kind: str, block: Json) -> bytes:
        """Close the block before, unless it is the same one."""
        if kind == self._block:
            return b""
        closed = self._close_block()
        self._block = kind
        self._index += 1
        if kind == _TEXT:
            marked = self._delta({"type": "text_delta", "text": _MARK})
            head, tail = marked.split(_MARK_JSON)
            self._around = head, tail
        start: Json = {"index": self._index, "content_block": block}
        return closed + _event("content_block_start", start)

    def _close_block(self) -> bytes:
        if self._block is None:
            return b""
        self._block = None
        return _event("content_block_stop", {"index": self._index})

    def _delta(self, delta: Json) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})


def whole_message(
    begun: AnswerBegun,
    choices: Sequence[WholeChoice],
    token_bytes: TokenBytes,
    timings: Timings | None,
) -> bytes:
    """Return the answer as one JSON body."""
    (choice,) = choices
    parts, stop_text = list(choice.parts), None
    last = parts[-1] if parts else None
    if isinstance(last, Said) and last.kind == "text":
        text, stop_text = split_stop(begun, last.text, choice.reader.finish_reason)
        parts[-1:] = [Said("text", text)] if text else []
    content = [_block(part) for part in parts]
    message = _message(begun, content, output_tokens=choice.reader.num_tokens, timings=timings)
    message["stop_reason"] = stop_reason(choice.reader, stop_text)
    message["stop_sequence"] = stop_text
    return orjson.dumps(message)


def _block(part: Said | ToolCall) -> Json:
    if isinstance(part, ToolCall):
        arguments = _parse_arguments(part.arguments)
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
    if part.kind == "reasoning":
        return {"type": "thinking", "thinking": part.text, "signature": ""}
    return {"type": "text", "text": part.text}


def split_stop(
    begun: AnswerBegun, text: str, reason: FinishReason | None
) -> tuple[str, str | None]:
    """Return the text without the stop text that ended it, and the stop text.

    The requests of this surface keep it, at the very end, for the caller wants to know which.
    """
    if reason is FinishReason.STOP:
        for stop in sorted(begun.request.stop, key=len, reverse=True):
            if text.endswith(stop):
                return text.removesuffix(stop), stop
    return text, None


def stop_reason(reader: ChoiceReader, stop_text: str | None) -> str:
    """Return why a message has ended, in Anthropic's words."""
    if reader.finish_reason is FinishReason.LENGTH:
        return "max_tokens"
    if stop_text is not None:
        return "stop_sequence"
    return "tool_use" if reader.num_tool_calls else "end_turn"


def _message(
    begun: AnswerBegun,
    content: list[Json],
    *,
    output_tokens: int,
    timings: Timings | None = None,
) -> Json:
    return {
        "id": "msg_" + begun.request.request_id,
        "type": "message",
        "role": "assistant",
        "model": begun.model_id,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": begun.num_prompt_tokens,
            "output_tokens": output_tokens,
            "cache_creation_input_tokens": 0,  # nothing is charged differently
            "cache_read_input_tokens": 0,
            **_timed(timings),
        },
    }


def _timed(timings: Timings | None) -> Json:
    """What `usage` has more than Anthropic's."""
    return {} if timings is None else {"timings": timings}


def _parse_arguments(text: str) -> object:
    """Return the arguments of a call; an answer cut off in the middle of them has none."""
    try:
        return orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}


def _event(name: str, fields: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))
