"""Answers of the OpenAI dialects as bytes. Pure.

The parts of a stream's frame that never change are encoded once per answer, so that a token costs
one JSON string and one concatenation. `answer_frames` puts them in the order of a stream.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from app.errors import ErrorReply
from app.inference.requests import FinishReason

DONE_FRAME: Final = b"data: [DONE]\n\n"
KEEP_ALIVE_FRAME: Final = b": keep-alive\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Numbers of tokens of one answer."""

    prompt_tokens: int
    completion_tokens: int

    def to_json(self) -> dict[str, int]:
        """Return what OpenAI calls `usage`."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


class AnswerShape(Protocol):
    """How one answer of a dialect is written down."""

    def opening_frame(self) -> bytes:
        """Return what a stream begins with; may be empty."""

    def text_frame(self, text: str) -> bytes:
        """Return the frame of some new text."""

    def finish_frame(self, reason: FinishReason) -> bytes:
        """Return the frame that says why the answer ends."""

    def usage_frame(self, usage: Usage) -> bytes:
        """Return the frame with the numbers of tokens."""

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> bytes:
        """Return the answer as one JSON body."""


class ChatShape:
    """`POST /v1/chat/completions`."""

    def __init__(
        self, request_id: str, model_id: str, created_at: int, *, includes_usage: bool
    ) -> None:
        self._facts = _facts("chatcmpl-" + request_id, created_at, model_id)
        self._usage: dict[str, object] = {"usage": None} if includes_usage else {}
        marked = self._frame({"content": "TEXT"}, None)
        self._head, self._tail = marked.split(b'"TEXT"')

    def opening_frame(self) -> bytes:
        """Return the frame with the role."""
        return self._frame({"role": "assistant", "content": ""}, None)

    def text_frame(self, text: str) -> bytes:
        """Return the frame of some new text."""
        return self._head + orjson.dumps(text) + self._tail

    def finish_frame(self, reason: FinishReason) -> bytes:
        """Return the frame that says why the answer ends."""
        return self._frame({}, reason)

    def usage_frame(self, usage: Usage) -> bytes:
        """Return the frame with the numbers of tokens; it has no choices."""
        return _event(
            {
                **self._facts,
                "object": "chat.completion.chunk",
                "choices": [],
                "usage": usage.to_json(),
            }
        )

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> bytes:
        """Return the answer as one JSON body."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return orjson.dumps(
            {
                **self._facts,
                "object": "chat.completion",
                "choices": [choice],
                "usage": usage.to_json(),
            }
        )

    def _frame(self, delta: dict[str, str], reason: FinishReason | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event(
            {**self._facts, "object": "chat.completion.chunk", "choices": [choice], **self._usage}
        )


class TextShape:
    """`POST /v1/completions`; a part of a stream looks like a whole answer."""

    def __init__(
        self, request_id: str, model_id: str, created_at: int, *, includes_usage: bool
    ) -> None:
        self._facts = _facts("cmpl-" + request_id, created_at, model_id)
        self._facts["object"] = "text_completion"
        self._usage: dict[str, object] = {"usage": None} if includes_usage else {}
        marked = self._frame("TEXT", None)
        self._head, self._tail = marked.split(b'"TEXT"')

    def opening_frame(self) -> bytes:
        """Return nothing: there is no role to tell."""
        return b""

    def text_frame(self, text: str) -> bytes:
        """Return the frame of some new text."""
        return self._head + orjson.dumps(text) + self._tail

    def finish_frame(self, reason: FinishReason) -> bytes:
        """Return the frame that says why the answer ends."""
        return self._frame("", reason)

    def usage_frame(self, usage: Usage) -> bytes:
        """Return the frame with the numbers of tokens; it has no choices."""
        return _event({**self._facts, "choices": [], "usage": usage.to_json()})

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> bytes:
        """Return the answer as one JSON body."""
        choice = _text_choice(text, reason)
        return orjson.dumps({**self._facts, "choices": [choice], "usage": usage.to_json()})

    def _frame(self, text: str, reason: FinishReason | None) -> bytes:
        return _event({**self._facts, "choices": [_text_choice(text, reason)], **self._usage})


def error_frame(reply: ErrorReply) -> bytes:
    """Return the frame of an error in the middle of a stream."""
    error = {
        "message": reply.message,
        "type": reply.openai_type,
        "param": reply.param,
        "code": reply.code,
    }
    return _event({"error": error})


def _facts(answer_id: str, created_at: int, model_id: str) -> dict[str, object]:
    return {
        "id": answer_id,
        "created": created_at,
        "model": model_id,
        "system_fingerprint": None,
    }


def _text_choice(text: str, reason: FinishReason | None) -> dict[str, object]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


def _event(value: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
