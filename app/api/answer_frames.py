"""A journal of one answer as server-sent events. Pure.

The id of an event is `<journal>-<number of its entry>`; what follows the last text has one id, at
its very end. So whoever asks for what comes behind an id gets every token once.
"""

import re
from typing import Final

import orjson

from app.api.openai_frames import (
    DONE_FRAME,
    AnswerShape,
    ChatShape,
    TextShape,
    Usage,
    error_frame,
)
from app.errors import BadRequestError
from app.inference.requests import FinishReason
from app.journals.entries import AnswerBegun, Closed, Entry, Failed, Produced
from app.journals.journal import Reading
from app.journals.notices import Notice
from app.observability.metrics import Surface

_EVENT_ID: Final = re.compile(r"([0-9a-f]{32})(?:-(\d{1,9}))?")


def parse_event_id(text: str, param: str) -> tuple[str, int]:
    """Return the journal's id, and the number of the entry: -1 if there is none.

    Raises:
        BadRequestError: it is none of ours.
    """
    match = _EVENT_ID.fullmatch(text)
    if match is None:
        raise BadRequestError(f"{param}: expected the id of an event of this gateway", param)
    return match[1], -1 if match[2] is None else int(match[2])


class AnswerFrames:
    """Turns readings into frames.

    Args:
        seen: number of the last entry the caller has; -1 if none. Up to there nothing is said.
        has_ids: whether the stream can be resumed.
    """

    def __init__(self, journal_id: str, *, seen: int = -1, has_ids: bool = True) -> None:
        self._id = b"id: " + journal_id.encode() + b"-" if has_ids else b""
        self._seen = seen
        self._begun: AnswerBegun  # both are there from the first entry on
        self._shape: AnswerShape
        self._num_tokens = 0
        self._reason = FinishReason.STOP

    def frames(self, reading: Reading) -> bytes:
        """Return the frames of a reading; readings come without gaps, the first one from 0."""
        frames = [
            self._frame(number, entry)
            for number, entry in enumerate(reading.entries, reading.start)
        ]
        return b"".join([*map(_notice_frame, reading.notices), *frames])

    def _frame(self, number: int, entry: Entry) -> bytes:
        match entry:
            case Produced():
                self._num_tokens += len(entry.token_ids)
                self._reason = entry.finish_reason or self._reason
                frame = self._shape.text_frame(entry.text) if entry.text else b""
            case AnswerBegun():
                self._begun, self._shape = entry, shape_of(entry)
                frame = self._shape.opening_frame()
            case Closed():
                return self._ending(number, self._finish())
            case Failed():
                return self._ending(number, error_frame(entry.reply))
            case _:
                raise AssertionError(f"no part of an answer: {entry.kind}")
        return b"" if number <= self._seen or not frame else self._with_id(number, frame)

    def _finish(self) -> bytes:
        frame = self._shape.finish_frame(self._reason)
        if self._begun.includes_usage:
            num_prompt = len(self._begun.request.prompt_ids)
            frame += self._shape.usage_frame(Usage(num_prompt, self._num_tokens))
        return frame

    def _ending(self, number: int, frame: bytes) -> bytes:
        return b"" if number <= self._seen else frame + self._with_id(number, DONE_FRAME)

    def _with_id(self, number: int, frame: bytes) -> bytes:
        return b"%b%d\n%b" % (self._id, number, frame) if self._id else frame


def shape_of(begun: AnswerBegun) -> AnswerShape:
    """Return how the answer is written down."""
    shape = ChatShape if begun.surface is Surface.CHAT else TextShape
    return shape(
        begun.request.request_id,
        begun.model_id,
        begun.created_at,
        includes_usage=begun.includes_usage,
    )


def _notice_frame(notice: Notice) -> bytes:
    """A comment: clients of OpenAI's dialect pass over it."""
    return b": swarm " + orjson.dumps(notice.to_json()) + b"\n\n"
