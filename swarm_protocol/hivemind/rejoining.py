"""Calls peers that a node's DHT has lost sight of, so that those who were cut off find back."""

import asyncio
from asyncio import IncompleteReadError
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Final

from hivemind.dht.node import DHTNode
from hivemind.p2p import PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import ControlFailure
from hivemind.utils.multiaddr import Multiaddr

from swarm_protocol.detached_tasks import start_detached
from swarm_protocol.hivemind.acquaintances import Acquaintances, Call
from swarm_protocol.hivemind.daemon import Daemon
from swarm_protocol.identifiers import PeerId
from swarm_protocol.logs import get_logger

log = get_logger(__name__)

_LOOK_S: Final = 1.0
_CONNECT_S: Final = 5
_MAX_CALLS: Final = 8
"""At a time; the others have their turn afterwards."""


class Rejoining:
    """The task of one node. A peer that answers is in the DHT again, on both sides."""

    def __init__(self, daemon: Daemon, dht: DHTNode, initial_peers: Sequence[str]) -> None:
        """Begin to look around; `stop` ends it.

        Args:
            daemon: dials.
            dht: of the same node, started already.
            initial_peers: addresses that end with `/p2p/<peer id>`; they are never given up.
        """
        self._daemon = daemon
        self._dht = dht
        self._loop = asyncio.get_running_loop()
        initial: dict[PeerId, list[str]] = {}
        for maddr in initial_peers:
            initial.setdefault(PeerId(Multiaddr(maddr)["p2p"]), []).append(maddr)
        initial.pop(PeerId(dht.peer_id.to_base58()), None)  # all peers of a swarm may get one list
        self._acquaintances = Acquaintances(initial, self._loop.time(), Random())
        self._calling = asyncio.Semaphore(_MAX_CALLS)
        self._task = start_detached(self._run())

    async def stop(self) -> None:
        """End it. Idempotent; never raises."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while not self._daemon.stopped.is_set():
            try:
                await self._look()
            except Exception as error:  # the edge of a task that must live as long as the node
                log.debug("rejoining_failed", error=type(error).__name__)
            await asyncio.sleep(_LOOK_S)

    async def _look(self) -> None:
        visible = self._visible()
        self._acquaintances.look(visible, self._loop.time())
        if self._acquaintances.has_unplaced:
            self._acquaintances.learn(await self._daemon.connections())
        calls = self._acquaintances.calls(self._loop.time())
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(self._call(call)) for call in calls]
        found = [call.peer for call, answer in zip(calls, answers, strict=True) if answer.result()]
        if not found:
            return
        log.info("peers_found_again", num_peers=len(found), was_alone=not visible)
        if not visible:  # they know others
            await self._dht.find_nearest_nodes([self._dht.node_id])

    def _visible(self) -> set[PeerId]:
        peers = self._dht.protocol.routing_table.peer_id_to_uid
        return {PeerId(peer.to_base58()) for peer in peers}

    async def _call(self, call: Call) -> bool:
        """Tell whether a peer answers; if so, it and we have each other in our tables."""
        peer = PeerID.from_base58(call.peer)
        async with self._calling:
            with suppress(ControlFailure, OSError, IncompleteReadError):
                if call.maddrs:
                    await self._daemon.connect_to(peer, call.maddrs, timeout_s=_CONNECT_S)
            has_answered = await self._dht.protocol.call_ping(peer) is not None
        if has_answered:
            self._dht.blacklist.register_success(peer)
        return has_answered
