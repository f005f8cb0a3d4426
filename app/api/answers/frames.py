"""A journal of one answer as server-sent events, in the dialect it was begun in. Pure.

The id of an event is `<journal>-<number of its entry>`, and only the last event of an entry has
one; what follows the last text is one entry. So whoever asks for what comes behind an id gets
every token once.
"""

import re
from collections.abc import Callable
from typing import Final

import orjson

from app.api.answers.writer import AnswerWriter
from app.errors import BadRequestError, ErrorReply
from app.journals.entries import AnswerBegun, Closed, Entry, Failed, Produced, Timed
from app.journals.journal import Reading
from app.journals.notices import Notice
from app.observability.time_spent import Timings

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
        open_writer: returns a writer for the answer.
        seen: number of the last entry the caller has; -1 if none. Up to there nothing is said.
        has_ids: whether the stream can be resumed.
    """

    def __init__(
        self,
        journal_id: str,
        open_writer: Callable[[AnswerBegun], AnswerWriter],
        *,
        seen: int = -1,
        has_ids: bool = True,
    ) -> None:
        self._id = b"id: " + journal_id.encode() + b"-" if has_ids else b""
        self._open_writer = open_writer
        self._seen = seen
        self._timings: Timings | None = None
        self._writer: AnswerWriter  # there from the first entry on

    def frames(self, reading: Reading) -> bytes:
        """Return the frames of a reading; readings come without gaps, the first one from 0."""
        if len(reading.entries) == 1 and not reading.notices:  # the usual token
            return self._frame(reading.start, reading.entries[0])
        frames = [
            self._frame(number, entry)
            for number, entry in enumerate(reading.entries, reading.start)
        ]
        return b"".join([*map(_notice_frame, reading.notices), *frames])

    def error_frame(self, reply: ErrorReply) -> bytes:
        """Return the frame of an error of the connection; the answer itself is not at its end."""
        return self._writer.error(reply)

    def _frame(self, number: int, entry: Entry) -> bytes:
        match entry:
            case Produced():
                frame = self._writer.write(entry)
            case AnswerBegun():
                self._writer = self._open_writer(entry)
                frame = self._writer.begin()
            case Timed():
                self._timings, frame = entry.timings, b""
            case Closed():
                frame = self._writer.finish(self._timings)
            case Failed():
                frame = self._writer.fail(entry.reply)
            case _:
                raise AssertionError(f"no part of an answer: {entry.kind}")
        return b"" if number <= self._seen or not frame else self._with_id(number, frame)

    def _with_id(self, number: int, frame: bytes) -> bytes:
        """Give the last of some events an id."""
        if not self._id:
            return frame
        start = frame.rfind(b"\n\n", 0, -2)
        if start < 0:
            return b"%b%d\n%b" % (self._id, number, frame)
        return b"%b%b%d\n%b" % (frame[: start + 2], self._id, number, frame[start + 2 :])


def _notice_frame(notice: Notice) -> bytes:
    """A comment: clients of all dialects pass over it."""
    return b": swarm " + orjson.dumps(notice.to_json()) + b"\n\n"
