"""Answers of `POST /v1/chat/completions` as bytes. Pure."""

from collections.abc import Sequence
from typing import assert_never

import orjson

from app.api.answers.choices import ChoiceReader, WholeChoice
from app.api.answers.writer import TokenBytes
from app.api.openai.frames import (
    MARK,
    FrameWriter,
    Json,
    answer_facts,
    finish_reason,
    frame_around,
    usage_json,
)
from app.api.openai.logprobs import chat_logprobs
from app.journals.entries import AnswerBegun, Produced
from app.observability.time_spent import Timings
from app.output.parts import OutputPart, ReasoningPart, TextPart, ToolCallPart


class ChatWriter(FrameWriter):
    """`AnswerWriter` of a chat."""

    def __init__(self, begun: AnswerBegun, token_bytes: TokenBytes) -> None:
        facts: Json = {**answer_facts("chatcmpl-", begun), "object": "chat.completion.chunk"}
        super().__init__(begun, facts)
        self._token_bytes = token_bytes
        self._around = [
            frame_around(self._frame(index, {"content": MARK}))
            for index in range(len(self.readers))
        ]

    def begin(self) -> bytes:
        """Return the role of each choice."""
        opening: Json = {"role": "assistant", "content": ""}
        return b"".join(self._frame(index, opening) for index in range(len(self.readers)))

    def write(self, entry: Produced) -> bytes:
        """Return the frames of some new tokens."""
        reader = self.readers[entry.choice]
        if not reader.is_plain or entry.logprobs:
            return self._write_parts(entry, reader)
        reader.note(entry)
        if not entry.text:
            return b""
        head, tail = self._around[entry.choice]
        return head + orjson.dumps(entry.text) + tail

    def last_frame(self, index: int, reason: str) -> bytes:
        """Return the frame that says why a choice has ended."""
        return self._frame(index, {}, reason=reason)

    def _write_parts(self, entry: Produced, reader: ChoiceReader) -> bytes:
        """Log-probabilities go along with the first part, or by themselves."""
        deltas = [_delta(part) for part in reader.read(entry)]
        if entry.logprobs and not deltas:
            deltas = [{"content": ""}]
        frames = []
        logprobs = chat_logprobs(entry.logprobs, self._token_bytes)
        for delta in deltas:
            frames.append(self._frame(entry.choice, delta, logprobs=logprobs))
            logprobs = None
        return b"".join(frames)

    def _frame(
        self, index: int, delta: Json, *, logprobs: Json | None = None, reason: str | None = None
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self.frame(choice)


def whole_chat(
    begun: AnswerBegun,
    choices: Sequence[WholeChoice],
    token_bytes: TokenBytes,
    timings: Timings | None,
) -> bytes:
    """Return the answer as one JSON body."""
    return orjson.dumps(
        {
            **answer_facts("chatcmpl-", begun),
            "object": "chat.completion",
            "choices": [
                {
                    "index": index,
                    "message": _message(choice),
                    "logprobs": chat_logprobs(choice.logprobs, token_bytes),
                    "finish_reason": finish_reason(choice.reader),
                }
                for index, choice in enumerate(choices)
            ],
            "usage": usage_json(begun, [choice.reader for choice in choices], timings),
        }
    )


def _message(choice: WholeChoice) -> Json:
    message: Json = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls:
        message["content"] = choice.text or None
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in choice.tool_calls
        ]
    return message


def _delta(part: OutputPart) -> Json:
    match part:
        case TextPart():
            return {"content": part.text}
        case ReasoningPart():
            return {"reasoning_content": part.text}
        case ToolCallPart():
            function = {"arguments": part.arguments_delta}
            call: Json = {"index": part.index, "function": function}
            if part.id:
                function["name"] = part.name
                call |= {"id": part.id, "type": "function"}
            return {"tool_calls": [call]}
        case _:
            assert_never(part)
