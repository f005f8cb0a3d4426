"""What the answers of both older OpenAI dialects have in common, as bytes. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import count
from typing import Final

import orjson

from app.api.answers.choices import ChoiceReader
from app.errors import ErrorReply
from app.inference.requests import FinishReason
from app.journals.entries import AnswerBegun
from app.observability.time_spent import Timings

DONE_FRAME: Final = b"data: [DONE]\n\n"
MARK: Final = "\0"  # in no model's name
_MARK_JSON: Final = orjson.dumps(MARK)

Json = dict[str, object]


def data_frame(value: Json) -> bytes:
    """Return an event without a name."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def frame_around(frame: bytes) -> tuple[bytes, bytes]:
    """Return what stands before and behind the text `MARK` of a frame.

    The parts that never change are encoded once per choice, so that a token costs one JSON string
    and one concatenation.
    """
    head, tail = frame.split(_MARK_JSON)
    return head, tail


def error_frame(reply: ErrorReply) -> bytes:
    """Return the frame of an error in the middle of a stream."""
    error = {
        "message": reply.message,
        "type": reply.openai_type,
        "param": reply.param,
        "code": reply.code,
    }
    return data_frame({"error": error})


def answer_facts(prefix: str, begun: AnswerBegun) -> Json:
    """Return what every frame says of its answer."""
    return {
        "id": prefix + begun.request.request_id,
        "created": begun.created_at,
        "model": begun.model_id,
        "system_fingerprint": None,
    }


def usage_json(
    begun: AnswerBegun, readers: Iterable[ChoiceReader], timings: Timings | None
) -> Json:
    """Return what OpenAI calls `usage`, of all choices; `timings` in it is ours."""
    readers = list(readers)
    num_prompt, num_new = begun.num_prompt_tokens, sum(reader.num_tokens for reader in readers)
    details: Json = {}
    if begun.output is not None and begun.output.has_reasoning:
        num_thought = sum(reader.num_reasoning_tokens for reader in readers)
        details = {"completion_tokens_details": {"reasoning_tokens": num_thought}}
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_new,
        "total_tokens": num_prompt + num_new,
        **details,
        **({} if timings is None else {"timings": timings}),
    }


def finish_reason(reader: ChoiceReader) -> str:
    """Return why a choice has ended, in OpenAI's words."""
    reason = reader.finish_reason or FinishReason.STOP
    return "tool_calls" if reader.num_tool_calls and reason is FinishReason.STOP else reason


class FrameWriter(ABC):
    """Writes frames without names, then `[DONE]`; the part of an `AnswerWriter` that does not
    depend on what choices look like.

    Attributes:
        readers: one for each choice.
    """

    def __init__(self, begun: AnswerBegun, facts: Json) -> None:
        self.readers = [ChoiceReader(begun) for _ in range(begun.total_choices)]
        self._begun = begun
        self._facts = facts
        self._usage: Json = {"usage": None} if begun.includes_usage else {}

    @abstractmethod
    def last_frame(self, index: int, reason: str) -> bytes:
        """Return the frame that says why a choice has ended."""

    def finish(self, timings: Timings | None) -> bytes:
        """Return why each choice has ended, and the usage if it is wanted; it has no choices."""
        reasons = [finish_reason(reader) for reader in self.readers]
        return b"".join(map(self.last_frame, count(), reasons)) + self._end(timings)

    def fail(self, reply: ErrorReply) -> bytes:
        """Return the error and the end."""
        return self.error(reply) + DONE_FRAME

    def error(self, reply: ErrorReply) -> bytes:
        """Return the error alone."""
        return error_frame(reply)

    def frame(self, choice: Json) -> bytes:
        """Return the frame of something new in a choice."""
        return data_frame({**self._facts, "choices": [choice], **self._usage})

    def _end(self, timings: Timings | None) -> bytes:
        """Return the usage, if it is wanted, in a frame without choices, and the end."""
        if not self._begun.includes_usage:
            return DONE_FRAME
        usage = usage_json(self._begun, self.readers, timings)
        return data_frame({**self._facts, "choices": [], "usage": usage}) + DONE_FRAME
