"""Finds stop texts in text that arrives in pieces. Pure; knows neither tokens nor callers."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopMatch:
    """Where a stop text stands, in characters of all the text so far: `[start, end)`."""

    start: int
    end: int


class StopFinder:
    """Passes text on until the first stop text is complete, and cuts the rest off.

    The first is the one that ends first; of several that end there, the longest. So the output
    never depends on how the text was split, and a match never waits for more text.

    Args:
        stop: texts to look for; an empty one never matches.
        keeps_stop: the output ends after the stop text. Otherwise it ends before it, so text that
            may turn out to be the beginning of a stop text is held back.
    """

    def __init__(self, stop: Sequence[str], *, keeps_stop: bool) -> None:
        self._stop = tuple(text for text in stop if text)
        self._keeps_stop = keeps_stop
        self._reach = max(map(len, self._stop), default=1) - 1
        self._window = ""  # the last `_reach` characters, where a match may have begun
        self._num_fed = 0
        self._num_emitted = 0
        self.match: StopMatch | None = None

    def feed(self, text: str) -> str:
        """Take the next piece; return what may be passed on now. After a match: nothing."""
        if self.match is not None or not text:
            return ""
        self._window += text
        self._num_fed += len(text)
        self.match = self._search()
        if self.match is not None:
            end = self.match.end if self._keeps_stop else self.match.start
        else:
            end = self._num_fed - (0 if self._keeps_stop else self._num_doubtful())
        return self._emit_until(end)

    def finish(self) -> str:
        """Return what is still held back: no more text will come."""
        return "" if self.match is not None else self._emit_until(self._num_fed)

    def _search(self) -> StopMatch | None:
        """A match that ended earlier would have been found earlier, so the window is enough."""
        found = [
            (index + len(text), index)
            for text in self._stop
            if (index := self._window.find(text)) >= 0
        ]
        if not found:
            return None
        end, start = min(found)
        window_start = self._num_fed - len(self._window)
        return StopMatch(window_start + start, window_start + end)

    def _num_doubtful(self) -> int:
        """Length of the longest end of the text that is the beginning of a stop text."""
        size = len(self._window)
        return max((size - self._beginning_of(text) for text in self._stop), default=0)

    def _beginning_of(self, text: str) -> int:
        """Where in the window a stop text may have begun; the window's end if nowhere."""
        start = self._window.find(text[0], max(0, len(self._window) - len(text) + 1))
        while start >= 0 and not text.startswith(self._window[start:]):
            start = self._window.find(text[0], start + 1)
        return start if start >= 0 else len(self._window)

    def _emit_until(self, end: int) -> str:
        window_start = self._num_fed - len(self._window)
        text = self._window[self._num_emitted - window_start : end - window_start]
        self._num_emitted += len(text)
        self._window = self._window[max(0, len(self._window) - self._reach) :]
        return text
