"""What all splitters of calls have in common: text that is held back until it is certain. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from app.output.found_parts import FoundParts
from app.output.marks import doubtful_length, find_mark
from app.output.parts import OutputPart


class CallSplitter(ABC):
    """Splits calls of tools out of one choice's text, from behind its reasoning on.

    A subclass looks at `_held` by one method after the other, in `_look`; each tells whether it is
    worth looking once more.

    Args:
        names: of the tools that there are.
        call_id: returns the id of the call with an index.
    """

    def __init__(self, names: Sequence[str], call_id: Callable[[int], str]) -> None:
        self._names = frozenset(names)
        self._found = FoundParts(call_id)
        self._held = ""  # not looked at yet, or doubtful
        self._taken = ""  # since the text ended, while it may still turn out to be text
        self._look: Callable[[], bool] = self._in_text

    def push(self, text: str) -> list[OutputPart]:
        """Take the next text; return what is certain."""
        self._held += text
        while self._held and self._look():
            pass
        return self._found.take()

    @abstractmethod
    def finish(self) -> list[OutputPart]:
        """Return what was held back: no more text will come."""

    @abstractmethod
    def _in_text(self) -> bool:
        """Look for the first mark of a call."""

    def _say_until(self, marks: Sequence[str]) -> str | None:
        """Pass text on up to a mark, which is taken and returned; None while there is none."""
        found = find_mark(self._held, marks)
        end = len(self._held) - doubtful_length(self._held, marks)
        text = found.before if found is not None else self._held[:end]
        ripe = text.rstrip()
        self._found.say(ripe)
        if found is None:
            self._held = self._held[len(ripe) :]
            return None
        self._taken, self._held = text[len(ripe) :] + found.mark, found.behind
        return found.mark

    def _look_with(self, look: Callable[[], bool]) -> bool:
        self._look = look
        return True
