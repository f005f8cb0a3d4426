"""What a session tells its owner while it looks for other servers.

Listeners are called on the event loop, between two awaits of the session: they must not block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from swarm_protocol.identifiers import BlockRange, PeerId


@dataclass(frozen=True, slots=True)
class HopLost:
    """A server is given up.

    `reason` is the code of the error it failed with, or `late`, `slow` or `leaving`.
    """

    peer: PeerId
    blocks: BlockRange
    reason: str


@dataclass(frozen=True, slots=True)
class WaitingForBlocks:
    """Nobody serves these blocks; the session waits for servers to join, so many seconds more."""

    missing: tuple[BlockRange, ...]
    left_s: float


@dataclass(frozen=True, slots=True)
class HopRestored:
    """Other servers have taken over, and hold what the lost one held.

    Attributes:
        blocks: of the lost server.
        num_replayed_tokens: sent once more, over all rows.
        gap_s: for which the step stood still; 0 when servers were changed beside it.
        waited_s: thereof, for servers to join.
    """

    blocks: BlockRange
    num_replayed_tokens: int
    gap_s: float
    waited_s: float


SessionEvent: TypeAlias = HopLost | WaitingForBlocks | HopRestored
EventListener: TypeAlias = Callable[[SessionEvent], None]
