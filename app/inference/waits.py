"""How long a conversation that begins anew has waited for servers."""

from collections.abc import Callable
from time import monotonic

from swarm_client.session.events import EventListener, SessionEvent, WaitingForBlocks


class Waits:
    """Passes events on, and adds up how long servers were waited for.

    Args:
        on_event: told of every event, if anybody wants to know.
        clock: seconds that never go back.
    """

    def __init__(
        self, on_event: EventListener | None, clock: Callable[[], float] = monotonic
    ) -> None:
        self._on_event = on_event
        self._clock = clock
        self._began_at: float | None = None
        self.waited_s = 0.0

    def hear(self, event: SessionEvent) -> None:
        """Take one event."""
        if isinstance(event, WaitingForBlocks) and self._began_at is None:
            self._began_at = self._clock()
        if self._on_event is not None:
            self._on_event(event)

    def end(self) -> None:
        """There are servers for all blocks again."""
        if self._began_at is not None:
            self.waited_s += self._clock() - self._began_at
            self._began_at = None
