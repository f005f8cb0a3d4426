"""Round trips to other peers: measured by a node, smoothed, and remembered."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from math import inf, isinf
from typing import Final

from swarm_protocol.errors import SwarmError
from swarm_protocol.identifiers import PeerId
from swarm_protocol.node import Node

_NEW_WEIGHT: Final = 0.2


class Pings:
    """Smoothed round trips by peer, in seconds; infinite for one that did not answer. Pure."""

    def __init__(self) -> None:
        self._round_trips: dict[PeerId, float] = {}  # in the order of measuring

    def record(self, peer: PeerId, round_trip_s: float) -> None:
        """Take in a measurement; infinite means "no answer", and is not smoothed."""
        old = self._round_trips.pop(peer, None)
        if old is None or isinf(old) or isinf(round_trip_s):
            self._round_trips[peer] = round_trip_s
        else:
            self._round_trips[peer] = old + _NEW_WEIGHT * (round_trip_s - old)

    def forget(self, peer: PeerId) -> None:
        """What is known of a peer counts no more."""
        self._round_trips.pop(peer, None)

    def get(self, peer: PeerId) -> float | None:
        """Return that of a peer; None while unknown."""
        return self._round_trips.get(peer)

    def all(self) -> dict[PeerId, float]:
        """Return those of all peers."""
        return dict(self._round_trips)

    def keep(self, peers: Collection[PeerId]) -> None:
        """Forget all others."""
        self._round_trips = {p: s for p, s in self._round_trips.items() if p in peers}

    def oldest_first(self, peers: Iterable[PeerId]) -> list[PeerId]:
        """Return peers in the order in which they should be measured: unknown ones first."""
        order = {peer: index for index, peer in enumerate(self._round_trips)}
        return sorted(peers, key=lambda peer: order.get(peer, -1))


async def measure(node: Node, pings: Pings, peers: Sequence[PeerId], *, timeout_s: float) -> None:
    """Measure and record the round trips to some peers, all at once."""

    async def measure_one(peer: PeerId) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                round_trip_s = await node.ping(peer)
        except (SwarmError, TimeoutError):
            round_trip_s = inf
        pings.record(peer, round_trip_s)

    async with asyncio.TaskGroup() as tasks:
        for peer in peers:
            tasks.create_task(measure_one(peer))
