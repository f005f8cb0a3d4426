"""Opening the streams of a route, all hops at once.

Petals has no "opened" reply: a hop counts as open when its server could be dialled and has
described itself. What it refuses, it refuses in the first step.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm_client.peer_descriptions import PeerDescriptions
from swarm_client.routing import Hop, Route
from swarm_client.session.hop_stream import HopStream
from swarm_protocol.errors import PeerError, PeerUnreachableError
from swarm_protocol.methods import RPC_INFERENCE
from swarm_protocol.node import Node


@dataclass(slots=True)
class DialledRoute:
    """Outcome of dialling: `hops` in route order, or what failed; then no stream is open."""

    hops: Sequence[HopStream] = ()
    failures: list[PeerError] = field(default_factory=list)


class Dialler:
    """Opens streams to servers of one model."""

    def __init__(
        self, node: Node, dht_prefix: str, descriptions: PeerDescriptions, *, timeout_s: float
    ) -> None:
        self._node = node
        self._dht_prefix = dht_prefix
        self._descriptions = descriptions
        self._timeout_s = timeout_s

    async def dial(self, route: Route) -> DialledRoute:
        """Open all hops of a route, or none.

        Raises:
            NodeError: our own node has stopped.
        """
        opened: dict[Hop, HopStream] = {}
        failures: list[PeerError] = []

        async def dial_hop(hop: Hop) -> None:
            try:
                opened[hop] = await self._dial_hop(hop)
            except PeerError as error:
                failures.append(error)

        try:
            async with asyncio.TaskGroup() as tasks:
                for hop in route:
                    tasks.create_task(dial_hop(hop))
        except BaseExceptionGroup as group:  # callers know the plain error
            _abandon(opened)
            raise group.exceptions[0] from group
        except asyncio.CancelledError:
            _abandon(opened)
            raise
        if failures:
            _abandon(opened)
            return DialledRoute(failures=failures)
        return DialledRoute(hops=[opened[hop] for hop in route])

    async def _dial_hop(self, hop: Hop) -> HopStream:
        try:
            async with asyncio.timeout(self._timeout_s):
                description = await self._descriptions.ask(hop)
                stream = await self._node.open_stream(hop.peer, RPC_INFERENCE)
        except TimeoutError as error:
            raise PeerUnreachableError(
                hop.peer, f"not connected within {self._timeout_s:g} s"
            ) from error
        return HopStream(hop, stream, self._dht_prefix, description)


def _abandon(opened: dict[Hop, HopStream]) -> None:
    for stream in opened.values():
        stream.abandon()
