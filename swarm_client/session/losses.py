"""How often something may still be tried, and without whom. Pure; time is an argument."""

from collections.abc import Iterable
from math import inf
from typing import Final, NamedTuple

from swarm_client.errors import CapacityError, NoRouteError, PeerFullError, SessionLostError
from swarm_client.routing import Hop
from swarm_protocol.errors import PeerRefusedError, SwarmError
from swarm_protocol.identifiers import PeerId

# Parts of what servers say when they have no room; PETALS_PROTOCOL §3.8 and our own servers.
_CAPACITY_TEXTS: Final = (
    "Could not allocate",
    "Cannot allocate",
    "attention cache is full",
    "its maximum of",
)


class Wait(NamedTuple):
    """For servers of blocks that nobody serves, in readings of the clock."""

    began_at: float
    ends_at: float


class Losses:
    """The peers lost while a session is opened, or in one step.

    Attributes:
        failed: not to be tried again.
        latest: why the last one failed; None before the first.
        deadline: by when the losses must be mended; None before the first.
        gap: the blocks that are waited for now.
        waited_s: for servers to join.
    """

    def __init__(self, *, max_losses: int, timeout_s: float, wait_s: float = 0.0) -> None:
        """Begin without losses.

        Args:
            max_losses: that may be mended, besides peers that do not answer when they are dialled.
            timeout_s: for mending all of them.
            wait_s: thereof, for waiting until somebody serves blocks that nobody serves.
        """
        self.failed: set[PeerId] = set()
        self.latest: SwarmError | None = None
        self.deadline: float | None = None
        self.gap: NoRouteError | None = None
        self.waited_s = 0.0
        self._num_left = max_losses
        self._timeout_s = timeout_s
        self._wait_s = wait_s
        self._waits_until: float | None = None
        self._forgiven: set[PeerId] = set()

    @property
    def may_wait(self) -> bool:
        """Whether servers may be waited for at all."""
        return self._wait_s > 0

    def add(
        self, *peers: PeerId, cause: SwarmError, now: float, is_unanswered: bool = False
    ) -> float:
        """Take in peers that failed together; return the deadline.

        Those that were tried once more while others are waited for count once. Those that did not
        answer when they were dialled do not count, but end with the deadline: records outlive
        their servers, and of one block there may be many.

        Args:
            peers: that failed.
            cause: why.
            now: reading of the clock.
            is_unanswered: they were dialled, and none of them answered.

        Raises:
            SwarmError: `cause`, when there were too many before, or it is too late.
        """
        self.failed.update(peers)
        self.latest = cause
        if is_unanswered:
            if self.deadline is not None and now >= self.deadline:
                raise cause
        elif not self._forgiven.issuperset(peers):
            if self._num_left == 0:
                raise cause
            self._num_left -= 1
        if self.deadline is None:
            self.deadline = now + self._timeout_s
        return self.deadline

    def begin_waiting(self, now: float) -> Wait:
        """Nobody serves some blocks. The time for waiting counts from the first time on."""
        if self._waits_until is None:
            self._waits_until = now + self._wait_s
        return Wait(now, min(self._waits_until, self.deadline or inf))

    def wait_left_s(self, wait: Wait, gap: NoRouteError, now: float) -> float:
        """Return how long servers may still be waited for.

        Raises:
            CapacityError: the latest loss, for want of memory.
            NoRouteError: `gap`: it is too late.
        """
        if isinstance(self.latest, CapacityError):
            raise self.latest from gap
        self.gap = gap
        if now >= wait.ends_at:
            raise gap from self.latest
        return wait.ends_at - now

    def end_waiting(self, wait: Wait, now: float) -> None:
        """Somebody serves them."""
        self.waited_s += now - wait.began_at
        self.gap = None

    def forgive(self, peers: Iterable[PeerId]) -> None:
        """These may be tried again."""
        returned = set(peers)
        self._forgiven |= returned
        self.failed -= returned


def loss_of(hop: Hop, error: SwarmError) -> SessionLostError | CapacityError:
    """Return what a failed step means for the session; chains its cause."""
    is_full = isinstance(error, PeerFullError) or (
        isinstance(error, PeerRefusedError)
        and any(text in error.reason for text in _CAPACITY_TEXTS)
    )
    loss = (CapacityError if is_full else SessionLostError)(hop.peer, hop.blocks)
    loss.__cause__ = error
    return loss
