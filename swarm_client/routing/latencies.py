"""How long steps took at each server lately, in whichever session. Pure; time is an argument.

Steps are told apart by their size in tokens, in powers of two: a long prefill is not slow because a
decode is fast.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from swarm_client.routing.route import Hop
from swarm_protocol.identifiers import PeerId

_NUM_KEPT: Final = 32
_LEAST_SAMPLES: Final = 8  # fewer say nothing about what is usual
_MAX_AGE_S: Final = 60.0
_NEW_WEIGHT: Final = 0.2
_SLOW_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds that one step took at one hop.

    Attributes:
        num_tokens: of the step, over all rows.
        took_s: from sending to the reply.
        queue_s: thereof, waiting at the server; None if it does not tell.
        compute_s: thereof, its blocks; None if it does not tell.
    """

    num_tokens: int
    took_s: float
    queue_s: float | None = None
    compute_s: float | None = None


class Latency:
    """Of steps of about one size at one hop, the latest 32 of them.

    Attributes:
        num_steps: so many were recorded.
        server_s: smoothed time at the server, in its queue and computing; None if it does not tell.
        latest_at: reading of the clock.
    """

    def __init__(self) -> None:
        self.num_steps = 0
        self.server_s: float | None = None
        self.latest_at = 0.0
        self._took_s: deque[float] = deque(maxlen=_NUM_KEPT)

    def record(self, times: StepTimes, now: float) -> None:
        """Take in one step."""
        self.num_steps += 1
        self.latest_at = now
        self._took_s.append(times.took_s)
        if times.compute_s is not None:
            server_s = times.compute_s + (times.queue_s or 0.0)
            old = server_s if self.server_s is None else self.server_s
            self.server_s = old + _NEW_WEIGHT * (server_s - old)

    def is_known(self, now: float) -> bool:
        """Whether there were enough steps, and not too long ago."""
        return self.num_steps >= _LEAST_SAMPLES and now - self.latest_at <= _MAX_AGE_S

    def took_s(self, share: float = 0.5) -> float:
        """Return the time within which this share of the steps was done; the median by default."""
        ordered = sorted(self._took_s)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class Latencies:
    """Of all hops of a model's sessions."""

    def __init__(self) -> None:
        self._by_peer: dict[PeerId, dict[Hop, dict[int, Latency]]] = {}

    def record(self, hop: Hop, times: StepTimes, now: float) -> None:
        """Take in one step."""
        by_size = self._by_peer.setdefault(hop.peer, {}).setdefault(hop, {})
        size = times.num_tokens.bit_length()
        latency = by_size.get(size)
        if latency is None:
            latency = by_size[size] = Latency()
        latency.record(times, now)

    def forget(self, peer: PeerId) -> None:
        """It may come back as another program."""
        self._by_peer.pop(peer, None)

    def usual_s(self, hop: Hop, num_tokens: int, now: float) -> float | None:
        """Return the median time of steps of about this size; None while that is not known."""
        latency = self._by_peer.get(hop.peer, {}).get(hop, {}).get(num_tokens.bit_length())
        return latency.took_s() if latency is not None and latency.is_known(now) else None

    def slow_s(self, hop: Hop, num_tokens: int, now: float) -> float | None:
        """Return a time that one step in ten of about this size exceeds, or could at most.

        Steps of another size count in proportion to their tokens, never less than as they are.
        None while nothing is known.
        """
        by_size = self._by_peer.get(hop.peer, {}).get(hop, {})
        size = num_tokens.bit_length()
        bounds = [
            latency.took_s(_SLOW_SHARE) * 2.0 ** max(size - known, 0)
            for known, latency in by_size.items()
            if latency.is_known(now) and (known <= size or size not in by_size)
        ]
        return min(bounds, default=None)

    def rate_tokens_per_s(self, peer: PeerId, now: float) -> float | None:
        """Return the speed of one of a server's blocks in its smallest steps, waiting included.

        None while that is not known, and for a server that does not tell.
        """
        for hop, by_size in self._by_peer.get(peer, {}).items():
            for size in sorted(by_size):
                latency = by_size[size]
                if latency.is_known(now) and latency.server_s:
                    return len(hop.blocks) / latency.server_s
        return None
