"""One direction of a link between two hosts: when which packet arrives, and whether it does.

Pure: the time is an argument, chance a seeded generator. Packets never overtake each other.
"""

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

_MAX_BACKLOG_S: Final = 0.2
"""Packets that would wait longer than this to be sent are lost, as in a router's full buffer."""

_MAX_BYTES: Final = 64 * 1024 * 1024
"""Bytes that may be under way; more are lost."""


@dataclass(frozen=True, slots=True)
class LinkTerms:
    """How one direction of a link treats packets. The default is a perfect link.

    Attributes:
        delay_s: from one end to the other.
        jitter_s: by which the delay of a packet is longer or shorter at most.
        loss: chance of a packet to get lost, 0 to 1.
        rate_bytes_per_s: at which packets are sent one after the other; None is no limit.
        is_cut: nothing is accepted. What is under way already still arrives.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    rate_bytes_per_s: float | None = None
    is_cut: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.jitter_s <= self.delay_s:
            raise ValueError(f"expected 0 <= jitter <= delay, got {self.jitter_s}, {self.delay_s}")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"a loss is between 0 and 1, got {self.loss}")
        if self.rate_bytes_per_s is not None and self.rate_bytes_per_s <= 0:
            raise ValueError(f"a rate is above 0, got {self.rate_bytes_per_s}")


class Link:
    """Packets under way in one direction. `terms` may be changed at any time, for later packets."""

    def __init__(self, random: Random) -> None:
        self.terms = LinkTerms()
        self._random = random
        self._under_way: deque[tuple[float, bytes]] = deque()  # by time of arrival
        self._num_bytes = 0
        self._sent_at = 0.0  # when the last packet has left the sender
        self._last_arrival = 0.0

    @property
    def next_arrival(self) -> float | None:
        """When the first packet under way arrives; None when there is none."""
        return self._under_way[0][0] if self._under_way else None

    def send(self, packet: bytes, now: float) -> None:
        """Accept a packet, or lose it."""
        terms = self.terms
        if terms.is_cut or (terms.loss and self._random.random() < terms.loss):
            return
        sent_at = now
        if terms.rate_bytes_per_s is not None:
            sent_at = max(now, self._sent_at)
            if sent_at - now > _MAX_BACKLOG_S:
                return
            sent_at += len(packet) / terms.rate_bytes_per_s
        if self._num_bytes + len(packet) > _MAX_BYTES:
            return
        self._sent_at = sent_at
        arrival = sent_at + terms.delay_s
        if terms.jitter_s:
            arrival += self._random.uniform(-terms.jitter_s, terms.jitter_s)
        self._last_arrival = max(arrival, self._last_arrival)
        self._under_way.append((self._last_arrival, packet))
        self._num_bytes += len(packet)

    def receive(self, now: float) -> list[bytes]:
        """Return the packets that have arrived, in the order in which they were sent."""
        arrived: list[bytes] = []
        while self._under_way and self._under_way[0][0] <= now:
            packet = self._under_way.popleft()[1]
            self._num_bytes -= len(packet)
            arrived.append(packet)
        return arrived
