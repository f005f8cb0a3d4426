"""Where the time of a step went."""

from dataclasses import dataclass
from typing import NamedTuple

from swarm_protocol.identifiers import BlockRange, PeerId


class HopTiming(NamedTuple):
    """What one hop took of a step, chunks and what had to be replayed summed up.

    A tuple, because each step of each session makes some.

    Attributes:
        took_ms: from sending hidden states until the reply was checked.
        queue_ms: thereof, waiting at the server; None if it does not tell.
        compute_ms: thereof, its blocks; None if it does not tell.
    """

    peer: PeerId
    blocks: BlockRange
    took_ms: float
    queue_ms: float | None = None
    compute_ms: float | None = None


@dataclass(frozen=True, slots=True)
class StepTimings:
    """Timings of one step, in route order; empty before the first one."""

    hops: tuple[HopTiming, ...] = ()
