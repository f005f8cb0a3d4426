"""Where the time of a step went."""

from dataclasses import dataclass

from swarm_protocol.identifiers import BlockRange, PeerId


@dataclass(frozen=True, slots=True)
class HopTiming:
    """From sending hidden states to a hop until its reply was checked; chunks are summed."""

    peer: PeerId
    blocks: BlockRange
    took_ms: float


@dataclass(frozen=True, slots=True)
class StepTimings:
    """Timings of one step, in route order; empty before the first one."""

    hops: tuple[HopTiming, ...] = ()
