"""What a dialect must be able to write down, and what it is given; no behaviour of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from app.api.answers.choices import WholeChoice
from app.errors import ErrorReply
from app.journals.entries import AnswerBegun, Produced
from app.observability.time_spent import Timings

TokenBytes: TypeAlias = Callable[[int], bytes]
"""Returns the bytes that a token stands for; they need not be whole characters."""


class AnswerWriter(Protocol):
    """Writes one stream of one answer, entry by entry, as server-sent events.

    Made with the answer's first entry; told all of it, from the beginning, also when the caller
    has seen the beginning already.
    """

    def begin(self) -> bytes:
        """Return what a stream begins with; may be empty."""

    def write(self, entry: Produced) -> bytes:
        """Return the events of some new tokens; may be empty."""

    def finish(self, timings: Timings | None) -> bytes:
        """Return what follows the last token, at least one event."""

    def fail(self, reply: ErrorReply) -> bytes:
        """Return what ends an answer that cannot go on, at least one event."""

    def error(self, reply: ErrorReply) -> bytes:
        """Return the event of an error of this connection; the answer may still go on."""


WriterFactory: TypeAlias = Callable[[AnswerBegun, TokenBytes], AnswerWriter]
WholeAnswer: TypeAlias = Callable[
    [AnswerBegun, Sequence[WholeChoice], TokenBytes, Timings | None], bytes
]


@dataclass(frozen=True, slots=True)
class AnswerDialect:
    """How answers of one surface are written: as a stream, and whole as one JSON body."""

    writer: WriterFactory
    whole: WholeAnswer
