"""Parts of an answer that have been found and not yet passed on. Pure."""

from collections.abc import Callable

from app.output.parts import OutputPart, TextPart, ToolCallPart


class FoundParts:
    """What a splitter has found since it was last asked.

    Args:
        call_id: returns the id of the call with an index.

    Attributes:
        num_calls: begun so far.
    """

    def __init__(self, call_id: Callable[[int], str]) -> None:
        self._call_id = call_id
        self._parts: list[OutputPart] = []
        self.num_calls = 0

    def take(self) -> list[OutputPart]:
        """Return them, oldest first."""
        parts, self._parts = self._parts, []
        return parts

    def say(self, text: str) -> None:
        """Add some text."""
        if text:
            self._parts.append(TextPart(text))

    def begin_call(self, name: str) -> None:
        """Add the beginning of a call."""
        index = self.num_calls
        self.num_calls += 1
        self._parts.append(ToolCallPart(index, self._call_id(index), name))

    def add_arguments(self, text: str) -> None:
        """Add a piece of the arguments' JSON text to the call that was begun last."""
        if text:
            self._parts.append(ToolCallPart(self.num_calls - 1, arguments_delta=text))
