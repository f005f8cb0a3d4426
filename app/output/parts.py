"""Parts of an answer, and what splits its text into them; no behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class TextPart:
    """Some more of what is said to the user."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """Some more of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """The beginning of a call of a tool, or some more of it.

    Attributes:
        index: of the call within the answer; the parts of one call follow each other.
        id: set on the first part of a call, else empty; and so is `name`.
        arguments_delta: next piece of the arguments' JSON text.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments_delta: str = ""


OutputPart: TypeAlias = TextPart | ReasoningPart | ToolCallPart


class OutputParser(Protocol):
    """Splits the text of one choice; how it is cut into deltas must not matter."""

    def push(self, text: str) -> Sequence[OutputPart]:
        """Take the next text; return what is certain."""

    def finish(self) -> Sequence[OutputPart]:
        """Return what was held back: no more text will come."""
