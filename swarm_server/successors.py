"""How far it is to the servers that may come after this one in a route.

Routes are the shortest paths over links, and nobody but us knows ours.
Source: PETALS_PROTOCOL §1.4, §6.3.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import PeerId, make_uid
from swarm_protocol.logs import get_logger
from swarm_protocol.node import FoundRecord, Node
from swarm_protocol.pings import Pings, measure
from swarm_protocol.records import ServerRecord, ServerState

log = get_logger(__name__)

_MAX_PINGED: Final = 8
_MAX_ANNOUNCED: Final = 32
_PING_TIMEOUT_S: Final = 2.0
_LOOKUP_TIMEOUT_S: Final = 10.0


class Successors:
    """Looks up and pings the servers that hold the block after our last one."""

    def __init__(
        self,
        node: Node,
        dht_prefix: str,
        end: int,
        *,
        period_s: float,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Know nobody yet.

        Args:
            node: our own.
            dht_prefix: of the model.
            end: of our span; nobody holds that block if it is the model's end, too.
            period_s: between two looks.
            pause: waits so many seconds.
        """
        self._node = node
        self._uid = make_uid(dht_prefix, end)
        self._period_s = period_s
        self._pause = pause
        self._pings = Pings()

    def round_trips(self) -> dict[PeerId, float]:
        """Return the smoothed round trips by peer, infinite for those that did not answer."""
        return self._pings.all()

    async def look(self) -> None:
        """Look them up, and ping those that were pinged the longest time ago.

        Raises:
            SwarmError, TimeoutError: the DHT does not answer; what was known stays.
        """
        async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
            found = await self._node.lookup([self._uid])
        peers = read_successors(found.get(self._uid, {}), own_peer=self._node.peer_id)
        self._pings.keep(peers)
        due = self._pings.oldest_first(peers)[:_MAX_PINGED]
        await measure(self._node, self._pings, due, timeout_s=_PING_TIMEOUT_S)

    async def keep_looking(self) -> None:
        """Look now and every period until cancelled; a failure is logged."""
        while True:
            try:
                await self.look()
            except Exception as error:  # the edge of a task that must live as long as the server
                log.debug("successors_unknown", reason=type(error).__name__)
            await self._pause(self._period_s)


def read_successors(records: Mapping[str, FoundRecord], *, own_peer: str) -> list[PeerId]:
    """Return the peers that are online by their records of one block, at most 32. Pure."""
    peers = [
        PeerId(peer)
        for peer, found in sorted(records.items())
        if peer != own_peer and _is_online(found)
    ]
    return peers[:_MAX_ANNOUNCED]


def _is_online(found: FoundRecord) -> bool:
    try:
        return ServerRecord.from_wire(found.value).state == ServerState.ONLINE
    except MalformedMessageError:
        return False
