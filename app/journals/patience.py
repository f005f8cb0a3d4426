"""Says when a run has no readers any more, or is told to stop; a timer, and no task."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Patience:
    """How long a run goes on that nobody reads.

    Attributes:
        is_over: the run was told to stop, by `end` or because nobody has read for so long.
    """

    __slots__ = ("_has_readers", "_patience_s", "_stop", "_timer", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._has_readers = False
        self._patience_s = 0.0
        self._stop: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None

    @contextmanager
    def watching(self, patience_s: float, stop: Callable[[], object]) -> Iterator[None]:
        """Call `stop` once, when patience is over; not before the loop has turned, nor after the
        block.
        """
        self._patience_s, self._stop = patience_s, stop
        self._set_timer()
        try:
            yield
        finally:
            self._stop = None
            self._set_timer()

    def end(self) -> None:
        """It is over at once, whoever reads."""
        self.is_over = True
        self._set_timer()

    def note_readers(self, *, has_readers: bool) -> None:
        """Note whether anybody reads now."""
        if has_readers is not self._has_readers:
            self._has_readers = has_readers
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stop is None or (self._has_readers and not self.is_over):
            return
        loop = asyncio.get_running_loop()
        if self.is_over:
            self._timer = loop.call_soon(self._run_out)
        else:
            self._timer = loop.call_later(self._patience_s, self._run_out)

    def _run_out(self) -> None:
        self.is_over, self._timer = True, None
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
