"""Splits off what a model thinks before it answers: `<think>…</think>`. Pure."""

from typing import Final

from app.output.marks import doubtful_length, find_mark
from app.output.parts import OutputPart, ReasoningPart

BEGIN: Final = "<think>"
END: Final = "</think>"


class ReasoningSplitter:
    """Takes reasoning off the front of a text; blanks around it belong to nobody.

    Args:
        has_begun: the prompt has said `<think>` already.
    """

    def __init__(self, *, has_begun: bool) -> None:
        self._held = ""
        self._has_thought = False  # some reasoning has been passed on
        # Looks at what is held; returns reasoning to pass on.
        self._look = self._in_reasoning if has_begun else self._at_start
        self._is_over = False

    def push(self, text: str) -> tuple[list[OutputPart], str]:
        """Take the next text; return reasoning, and text that is certain to be behind it."""
        if self._is_over:
            return [], text
        self._held += text
        return self._look(), self._rest()

    def finish(self) -> tuple[list[OutputPart], str]:
        """Return what was held back: no more text will come."""
        if self._look == self._in_reasoning and not self._is_over:
            return self._think(self._held), ""
        self._is_over = True
        return [], self._rest()

    def _at_start(self) -> list[OutputPart]:
        text = self._held.lstrip()
        if text.startswith(BEGIN):
            self._held, self._look = text[len(BEGIN) :], self._in_reasoning
            return self._in_reasoning()
        self._is_over = not BEGIN.startswith(text)
        return []

    def _in_reasoning(self) -> list[OutputPart]:
        found = find_mark(self._held, [END])
        if found is not None:
            self._held, self._look = found.behind, self._behind_reasoning
            thoughts = self._think(found.before)
            self._behind_reasoning()
            return thoughts
        end = len(self._held) - doubtful_length(self._held, [END])
        doubtful, self._held = self._held[end:], self._held[:end]
        thoughts = self._think(self._held)
        blanks = self._held[len(self._held.rstrip()) :]
        self._held = blanks + doubtful
        return thoughts

    def _behind_reasoning(self) -> list[OutputPart]:
        self._held = self._held.lstrip()
        self._is_over = bool(self._held)
        return []

    def _think(self, text: str) -> list[OutputPart]:
        """Return a piece of reasoning, without blanks at the ends of it all."""
        ripe = text.rstrip() if self._has_thought else text.strip()
        self._has_thought |= bool(ripe)
        return [ReasoningPart(ripe)] if ripe else []

    def _rest(self) -> str:
        text = self._held if self._is_over else ""
        if self._is_over:
            self._held = ""
        return text
