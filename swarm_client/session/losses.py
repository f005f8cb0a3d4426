"""How often something may still be tried, and without whom. Pure; time is an argument."""

from typing import Final

from swarm_client.errors import CapacityError, PeerFullError, SessionLostError
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


class Losses:
    """The peers lost while a session is opened, or in one step.

    Attributes:
        failed: not to be tried again.
        latest: why the last one failed; None before the first.
        deadline: by when the losses must be mended; None before the first.
    """

    def __init__(self, *, max_losses: int, timeout_s: float) -> None:
        self.failed: set[PeerId] = set()
        self.latest: SwarmError | None = None
        self.deadline: float | None = None
        self._num_left = max_losses
        self._timeout_s = timeout_s

    def add(self, *peers: PeerId, cause: SwarmError, now: float) -> float:
        """Take in peers that failed together; return the deadline.

        Raises:
            SwarmError: `cause`, when there were too many before.
        """
        self.failed.update(peers)
        self.latest = cause
        if self._num_left == 0:
            raise cause
        self._num_left -= 1
        if self.deadline is None:
            self.deadline = now + self._timeout_s
        return self.deadline


def loss_of(hop: Hop, error: SwarmError) -> SessionLostError | CapacityError:
    """Return what a failed step means for the session; chains its cause."""
    is_full = isinstance(error, PeerFullError) or (
        isinstance(error, PeerRefusedError)
        and any(text in error.reason for text in _CAPACITY_TEXTS)
    )
    loss = (CapacityError if is_full else SessionLostError)(hop.peer, hop.blocks)
    loss.__cause__ = error
    return loss
