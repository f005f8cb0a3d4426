"""What is open at once in this gateway: connections, conversations, generations of an address."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

from app.callers import Caller
from app.errors import BusyError, TooManyOpenError
from app.settings import LimitSettings


class Place(Enum):
    """What is open."""

    CONNECTION = auto()
    CONVERSATION = auto()
    GENERATION = auto()


_NAMES = {
    Place.CONNECTION: "connections",
    Place.CONVERSATION: "conversations",
    Place.GENERATION: "generations",
}


class OpenPlaces:
    """Counts what is open, all in all and per address."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._num_open: Counter[Place] = Counter()
        self._num_of_address: Counter[tuple[Place, str]] = Counter()

    @contextmanager
    def place(self, what: Place, caller: Caller) -> Iterator[None]:
        """Hold a place while the block runs.

        Raises:
            BusyError: as many are open as may.
            TooManyOpenError: as many of this address.
        """
        self._check(what, caller)
        of_address = (what, caller.address_id)
        self._num_open[what] += 1
        self._num_of_address[of_address] += 1
        try:
            yield
        finally:
            self._num_open[what] -= 1
            self._num_of_address[of_address] -= 1
            if not self._num_of_address[of_address]:
                del self._num_of_address[of_address]

    def _check(self, what: Place, caller: Caller) -> None:
        most = self._limits.max_conversations
        if what is not Place.GENERATION and self._num_open[what] >= most:
            raise BusyError(_NAMES[what], most)
        most = (
            self._limits.address_generations
            if what is Place.GENERATION
            else self._limits.address_connections
        )
        if most and self._num_of_address[what, caller.address_id] >= most:
            raise TooManyOpenError(_NAMES[what], most)
