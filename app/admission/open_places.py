"""What is open at once in this gateway: connections, conversations, generations of an address."""

from collections import Counter
from dataclasses import dataclass
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

    def place(self, what: Place, caller: Caller) -> "HeldPlace":
        """Take a place, and hold it until the end of the `with` block that it is for.

        Raises:
            BusyError: as many are open as may.
            TooManyOpenError: as many of this address.
        """
        self._check(what, caller)
        self._num_open[what] += 1
        self._num_of_address[what, caller.address_id] += 1
        return HeldPlace(self, what, caller.address_id)

    def leave(self, what: Place, address_id: str) -> None:
        """Give a place back."""
        self._num_open[what] -= 1
        self._num_of_address[what, address_id] -= 1
        if not self._num_of_address[what, address_id]:
            del self._num_of_address[what, address_id]

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


@dataclass(frozen=True, slots=True)
class HeldPlace:
    """A place that is left at the end of a `with` block; a tenth of the memory of a generator."""

    places: OpenPlaces
    what: Place
    address_id: str

    def __enter__(self) -> None:
        """It has been taken already."""

    def __exit__(self, *error: object) -> None:
        """Leave it."""
        self.places.leave(self.what, self.address_id)
