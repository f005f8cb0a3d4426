"""The text of one generation: detokenizer and stop texts together. Pure."""

from dataclasses import dataclass

from app.inference.detokenizer import Detokenizer
from app.inference.stop_sequences import StopFinder


@dataclass(frozen=True, slots=True)
class Cut:
    """What stays of the generated tokens when a stop text ended in the midst of them.

    Attributes:
        num_tokens: generated tokens that lie wholly before the end of the stop text.
        rest: text between them and that end; it belongs to a token that says more.
    """

    num_tokens: int
    rest: str


class OutputText:
    """Turns tokens into the text a caller gets, and knows where a stop text cut them."""

    def __init__(self, detokenizer: Detokenizer, stop_finder: StopFinder) -> None:
        self._detokenizer = detokenizer
        self._stop_finder = stop_finder
        self._text = ""
        self._ends: list[int | None] = []  # per token: where its text ends, unless in a character

    @property
    def is_stopped(self) -> bool:
        """Whether a stop text is complete."""
        return self._stop_finder.match is not None

    def push(self, token_id: int) -> str:
        """Take the next token; return the text to pass on."""
        new_text = self._detokenizer.push(token_id)
        self._text += new_text
        self._ends.append(len(self._text) if self._detokenizer.is_whole else None)
        return self._stop_finder.feed(new_text)

    def finish(self) -> str:
        """Return what was held back: no more tokens will come."""
        new_text = self._detokenizer.finish()
        self._text += new_text
        return self._stop_finder.feed(new_text) + self._stop_finder.finish()

    def cut(self) -> Cut:
        """Return what stays of the tokens; call it only when `is_stopped`."""
        match = self._stop_finder.match
        assert match is not None
        num_tokens, start = 0, 0
        for index, end in enumerate(self._ends):
            if end is not None and end <= match.end:
                num_tokens, start = index + 1, end
        return Cut(num_tokens, self._text[start : match.end])
