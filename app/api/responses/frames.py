"""Streams of `POST /v1/responses` as bytes. Pure.

response.created  response.in_progress
( output_item.added  …delta …  …done  output_item.done ) …
response.completed | incomplete | failed
"""

from dataclasses import dataclass, field
from typing import Final, Literal

import orjson

from app.api.answers.choices import ChoiceReader
from app.api.answers.writer import TokenBytes
from app.api.responses.items import (
    call_item,
    item_id,
    logprob_items,
    message_item,
    reasoning_item,
    response_json,
    text_part,
)
from app.errors import ErrorReply
from app.journals.entries import AnswerBegun, Produced
from app.observability.time_spent import Timings
from app.output.parts import OutputPart, ReasoningPart, TextPart, ToolCallPart

Json = dict[str, object]
Kind = Literal["message", "reasoning", "call"]

_PREFIXES: Final[dict[Kind, str]] = {"message": "msg", "reasoning": "rs", "call": "fc"}


@dataclass(slots=True)
class _Item:
    """The item that is being written; `call_index` is that of a call of a tool."""

    kind: Kind
    id: str
    call_index: int = 0
    call_id: str = ""
    name: str = ""
    texts: list[str] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)

    def to_json(self, status: str) -> Json:
        text = "".join(self.texts)
        match self.kind:
            case "message":
                return message_item(self.id, text, status, self.logprobs)
            case "reasoning":
                return reasoning_item(self.id, text, status)
            case "call":
                return call_item(self.id, self.call_id, self.name, text, status)


class ResponseWriter:
    """`AnswerWriter` of a response: events with names and numbers in a row.

    Args:
        starting_after: number of the last event that the caller has; -1 if none.
    """

    def __init__(
        self, begun: AnswerBegun, token_bytes: TokenBytes, *, starting_after: int = -1
    ) -> None:
        self._begun = begun
        self._token_bytes = token_bytes
        self._reader = ChoiceReader(begun)
        self._number = 0
        self._starting_after = starting_after
        self._output: list[Json] = []
        self._item: _Item | None = None

    def begin(self) -> bytes:
        """Return the response without output."""
        response = response_json(self._begun, self._reader, [])
        return self._event("response.created", {"response": response}) + self._event(
            "response.in_progress", {"response": response}
        )

    def write(self, entry: Produced) -> bytes:
        """Return the events of some new tokens."""
        logprobs = logprob_items(entry.logprobs, self._token_bytes) if entry.logprobs else []
        parts = self._reader.read(entry)
        if logprobs and not parts:
            parts = [TextPart("")]
        return b"".join([self._part(part, logprobs) for part in parts])

    def finish(self, timings: Timings | None) -> bytes:
        """Return the end of the item and the whole response."""
        closed = b"" if self._output or self._item is not None else self._open("message")
        response_status = "completed" if self._is_complete else "incomplete"
        closed += self._close(response_status)
        response = response_json(self._begun, self._reader, self._output, timings=timings)
        return closed + self._event(f"response.{response['status']}", {"response": response})

    def fail(self, reply: ErrorReply) -> bytes:
        """Return the response with its error, as far as it is."""
        closed = self._close("incomplete")
        response = response_json(self._begun, self._reader, self._output, reply)
        return closed + self._event("response.failed", {"response": response})

    def error(self, reply: ErrorReply) -> bytes:
        """Return an error of this connection."""
        fields: Json = {"code": reply.code, "message": reply.message, "param": reply.param}
        return self._event("error", fields)

    @property
    def _is_complete(self) -> bool:
        return self._reader.finish_reason == "stop"

    def _part(self, part: OutputPart, logprobs: list[Json]) -> bytes:
        match part:
            case TextPart():
                opened = self._open("message")
                self._current.logprobs += logprobs
                extra: Json = {"content_index": 0, "logprobs": logprobs}
                return opened + self._delta("response.output_text.delta", part.text, extra)
            case ReasoningPart():
                opened = self._open("reasoning")
                extra = {"content_index": 0}
                return opened + self._delta("response.reasoning_text.delta", part.text, extra)
            case ToolCallPart():
                opened = self._open("call", part)
                if not part.arguments_delta:
                    return opened
                name = "response.function_call_arguments.delta"
                return opened + self._delta(name, part.arguments_delta, {})

    @property
    def _current(self) -> _Item:
        assert self._item is not None
        return self._item

    def _open(self, kind: Kind, call: ToolCallPart | None = None) -> bytes:
        """Close the item before, unless it is the same one."""
        item, call_index = self._item, 0 if call is None else call.index
        if item is not None and (item.kind, item.call_index) == (kind, call_index):
            return b""
        closed = self._close("completed")
        place = item_id(self._begun, _PREFIXES[kind], len(self._output))
        self._item = _Item(kind, place, call_index)
        if call is not None:
            self._item.call_id, self._item.name = call.id, call.name
        added = self._event(
            "response.output_item.added",
            {"output_index": len(self._output), "item": self._item.to_json("in_progress")},
        )
        if kind == "message":
            added += self._placed(
                "response.content_part.added", {"content_index": 0, "part": text_part("")}
            )
        return closed + added

    def _close(self, status: str) -> bytes:
        item = self._item
        if item is None:
            return b""
        text, events = "".join(item.texts), []
        match item.kind:
            case "message":
                done: Json = {"content_index": 0, "text": text, "logprobs": item.logprobs}
                part = {**text_part(text), "logprobs": item.logprobs}
                events = [
                    self._placed("response.output_text.done", done),
                    self._placed("response.content_part.done", {"content_index": 0, "part": part}),
                ]
            case "reasoning":
                done = {"content_index": 0, "text": text}
                events = [self._placed("response.reasoning_text.done", done)]
            case "call":
                done = {"name": item.name, "arguments": text}
                events = [self._placed("response.function_call_arguments.done", done)]
        whole = item.to_json(status)
        events.append(
            self._event(
                "response.output_item.done", {"output_index": len(self._output), "item": whole}
            )
        )
        self._output.append(whole)
        self._item = None
        return b"".join(events)

    def _delta(self, name: str, text: str, extra: Json) -> bytes:
        self._current.texts.append(text)
        return self._placed(name, {"delta": text, **extra})

    def _placed(self, name: str, fields: Json) -> bytes:
        """An event about the open item."""
        place: Json = {"item_id": self._current.id, "output_index": len(self._output)}
        return self._event(name, {**place, **fields})

    def _event(self, name: str, fields: Json) -> bytes:
        number = self._number
        self._number += 1
        if number <= self._starting_after:
            return b""
        data = orjson.dumps({"type": name, "sequence_number": number, **fields})
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
