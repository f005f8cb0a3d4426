"""What the answers of both older OpenAI dialects have in common, as bytes. Pure."""

from typing import Final

import orjson

from app.api.answer_writer import Usage
from app.api.choices import ChoiceReader
from app.errors import ErrorReply
from app.inference.requests import FinishReason
from app.journals.entries import AnswerBegun

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


def usage_json(usage: Usage) -> Json:
    """Return what OpenAI calls `usage`."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def finish_reason(reader: ChoiceReader) -> str:
    """Return why a choice has ended, in OpenAI's words."""
    reason = reader.finish_reason or FinishReason.STOP
    return "tool_calls" if reader.num_tool_calls and reason is FinishReason.STOP else reason
