"""Tells the swarm about this server, now and again. Source: PETALS_PROTOCOL §1.4 and §1.5."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from swarm_protocol.identifiers import BlockRange, make_uid
from swarm_protocol.logs import get_logger
from swarm_protocol.node import Node, RecordEntry
from swarm_protocol.records import MODEL_REGISTRY_KEY, ModelRecord, ServerRecord, ServerState

log = get_logger(__name__)

_STORE_TIMEOUT_S: Final = 10.0
_RETRY_S: Final = 2.0
_MIN_TTL_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Announced:
    """What is published besides the state: where, and about which model."""

    dht_prefix: str
    blocks: BlockRange
    model: ModelRecord


class Announcer:
    """Publishes the server's record under each of its blocks, and the model in the registry.

    A failed publication is logged and tried again soon; a server that cannot announce itself
    goes on serving whoever knows it.
    """

    def __init__(
        self,
        node: Node,
        announced: Announced,
        describe: Callable[[ServerState], ServerRecord],
        *,
        period_s: float,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare to announce.

        Args:
            node: our own.
            announced: what and where.
            describe: gives the record as of now.
            period_s: seconds between two publications of the same state.
            pause: waits so many seconds.
        """
        self._node = node
        self._announced = announced
        self._describe = describe
        self._period_s = period_s
        self._state = ServerState.OFFLINE
        self._pause = pause

    async def publish(self, state: ServerState) -> bool:
        """Publish a state at once, also from now on; True when the swarm has taken it."""
        self._state = state
        try:
            async with asyncio.timeout(_STORE_TIMEOUT_S):
                is_stored = await self._node.store(
                    self._entries(), ttl_s=max(2 * self._period_s, _MIN_TTL_S)
                )
            reason = "no peer has taken it"
        except Exception as error:  # whatever a node fails with, serving goes on
            is_stored, reason = False, type(error).__name__
        if is_stored:
            log.debug("server_announced", state=state.name.lower())
        else:
            log.warning("announcement_failed", state=state.name.lower(), reason=reason)
        return is_stored

    async def keep_announcing(self) -> None:
        """Publish the current state every period until cancelled."""
        pause_s = self._period_s
        while True:
            await self._pause(pause_s)
            is_stored = await self.publish(self._state)
            pause_s = self._period_s if is_stored else min(self._period_s, _RETRY_S)

    def _entries(self) -> list[RecordEntry]:
        prefix, blocks = self._announced.dht_prefix, self._announced.blocks
        peer = self._node.peer_id
        value = self._describe(self._state).to_wire()
        entries = [
            RecordEntry(make_uid(prefix, index), peer, value)
            for index in range(blocks.start, blocks.end)
        ]
        if not prefix.startswith("_"):  # such a prefix is private
            model = self._announced.model.model_dump()
            entries.append(RecordEntry(MODEL_REGISTRY_KEY, prefix, model))
        return entries
