"""How long steps took at each server lately, in whichever session. Pure; time is an argument.

Steps are told apart by their size in tokens, in powers of two: a long prefill is not slow because a
decode is fast.
"""

from collections import deque
from typing import Final

from swarm_client.routing.route import Hop
from swarm_protocol.identifiers import BlockRange, PeerId

_NUM_KEPT: Final = 32
_LEAST_STEPS: Final = 8  # fewer say nothing about what is usual
_MAX_AGE_S: Final = 60.0
_NEW_WEIGHT: Final = 0.2
_SLOW_SHARE: Final = 0.9


class Latency:
    """Of steps of about one size at one hop: of the latest 32, reckoned anew with each eighth.

    Attributes:
        num_steps: so many were recorded.
        usual_s: the median.
        slow_s: one in ten took longer.
        server_s: smoothed time at the server, in its queue and computing; None if it does not tell.
    """

    def __init__(self) -> None:
        self.num_steps = 0
        self.usual_s = 0.0
        self.slow_s = 0.0
        self.server_s: float | None = None
        self._took_s: deque[float] = deque(maxlen=_NUM_KEPT)
        self._latest_at = 0.0

    def record(self, took_s: float, server_s: float | None, now: float) -> None:
        """Take in one step; see `HopLatencies.record`."""
        self.num_steps += 1
        self._latest_at = now
        self._took_s.append(took_s)
        if self.num_steps % _LEAST_STEPS == 0:
            ordered = sorted(self._took_s)
            self.usual_s = ordered[len(ordered) // 2]
            self.slow_s = ordered[int(_SLOW_SHARE * len(ordered))]
        if server_s is not None:
            old = server_s if self.server_s is None else self.server_s
            self.server_s = old + _NEW_WEIGHT * (server_s - old)

    def is_known(self, now: float) -> bool:
        """Whether there were enough steps, and not too long ago."""
        return self.num_steps >= _LEAST_STEPS and now - self._latest_at <= _MAX_AGE_S

    def longest_s(self) -> float:
        """Return the longest of the latest steps, of which there is one, however few."""
        return max(self._took_s)


class HopLatencies:
    """Of one hop, by the size of steps."""

    def __init__(self) -> None:
        self._by_size: dict[int, Latency] = {}

    def record(
        self, num_tokens: int, took_s: float, *, server_s: float | None = None, now: float
    ) -> None:
        """Take in one step.

        Args:
            num_tokens: of the step, over all rows.
            took_s: from sending to the reply.
            server_s: thereof, in the server's queue and blocks; None if it does not tell.
            now: reading of the clock.
        """
        size = num_tokens.bit_length()
        latency = self._by_size.get(size)
        if latency is None:
            latency = self._by_size[size] = Latency()
        latency.record(took_s, server_s, now)

    def usual_s(self, num_tokens: int, now: float) -> float | None:
        """Return the median time of steps of about this size; None while that is not known."""
        latency = self._by_size.get(num_tokens.bit_length())
        return latency.usual_s if latency is not None and latency.is_known(now) else None

    def slow_s(self, num_tokens: int, now: float) -> float | None:
        """Return a time that one step in ten of about this size exceeds, or could at most.

        Steps of an unknown size count as others do: in proportion to their tokens if those are
        fewer. None while nothing is known.
        """
        size = num_tokens.bit_length()
        latency = self._by_size.get(size)
        if latency is not None and latency.is_known(now):
            return latency.slow_s
        bounds = [
            latency.slow_s * 2.0 ** max(size - known, 0)
            for known, latency in self._by_size.items()
            if latency.is_known(now)
        ]
        return min(bounds, default=None)

    def longest_s(self, num_tokens: int) -> float | None:
        """Return the longest time of steps of about this size, however few; None for none."""
        latency = self._by_size.get(num_tokens.bit_length())
        return None if latency is None else latency.longest_s()

    def decode(self, now: float) -> Latency | None:
        """Return that of the smallest steps that is known."""
        for size in sorted(self._by_size):
            if self._by_size[size].is_known(now):
                return self._by_size[size]
        return None


class Latencies:
    """Of all hops of a model's sessions."""

    def __init__(self) -> None:
        self._by_peer: dict[PeerId, dict[BlockRange, HopLatencies]] = {}

    def of(self, hop: Hop) -> HopLatencies:
        """Return those of a hop, to be recorded and read."""
        return self._by_peer.setdefault(hop.peer, {}).setdefault(hop.blocks, HopLatencies())

    def forget(self, peer: PeerId) -> None:
        """It may come back as another program."""
        self._by_peer.pop(peer, None)

    def elsewhere_s(self, hop: Hop, num_tokens: int, now: float) -> float | None:
        """Return what steps of about this size take over as many blocks at the slowest server.

        As `HopLatencies.slow_s` says; None while it says nothing of any.
        """
        times_s = [
            slow_s / len(blocks)
            for hops in self._by_peer.values()
            for blocks, latencies in hops.items()
            if (slow_s := latencies.slow_s(num_tokens, now)) is not None
        ]
        return len(hop.blocks) * max(times_s) if times_s else None

    def rate_tokens_per_s(self, peer: PeerId, now: float) -> float | None:
        """Return the speed of one of a server's blocks in its smallest steps, waiting included.

        None while that is not known, and for a server that does not tell.
        """
        for blocks, latencies in self._by_peer.get(peer, {}).items():
            latency = latencies.decode(now)
            if latency is not None and latency.server_s:
                return len(blocks) / latency.server_s
        return None
