"""Keeps a `Directory` true to the swarm: looks the servers of one model up, and pings them."""

import asyncio
from typing import Final

from swarm_client.directory import Directory
from swarm_client.models.facts import ModelFacts
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import DeadlineExceededError
from swarm_protocol.identifiers import make_uid
from swarm_protocol.logs import get_logger
from swarm_protocol.node import Node
from swarm_protocol.pings import measure

log = get_logger(__name__)

_MOMENT_S: Final = 0.25
_PROBE_S: Final = 1.0


class ServerWatch:
    """Updates a directory now and again, and whenever somebody asks for it."""

    def __init__(
        self, node: Node, directory: Directory, facts: ModelFacts, settings: RoutingSettings
    ) -> None:
        self._node = node
        self._directory = directory
        self._model = facts.source
        self._settings = settings
        self._uids = [make_uid(facts.dht_prefix, index) for index in range(facts.num_blocks)]
        self._lookup_lock = asyncio.Lock()
        self._last_started = 0  # look-ups are numbered
        self._last_finished = 0
        self._has_failed = False  # the one that finished last

    async def refresh(self) -> None:
        """Look all records up. Callers who come while a look-up is running share the next one.

        Raises:
            DeadlineExceededError: the DHT did not answer in time; what was known stays.
            NodeError: our own node has stopped.
        """
        await self._refresh(probes=False)

    async def refresh_soon(self) -> None:
        """Return after a moment, when records have been looked up in the meantime.

        Servers that have failed are pinged, too: one that was cut off may be back. However many
        callers wait, there is one look-up a moment. A DHT that does not answer is logged only.
        """
        last_started = self._last_started
        await asyncio.sleep(_MOMENT_S)
        if self._last_finished <= last_started:
            try:
                await self._refresh(probes=True)
            except DeadlineExceededError as error:
                log.warning("server_lookup_failed", model=self._model, error=error.code)

    async def ping_servers(self) -> None:
        """Measure the round trips to the servers whose last measurement is oldest."""
        peers = self._directory.peers()[: self._settings.max_pinged]
        timeout_s = self._settings.ping_timeout_s
        await measure(self._node, self._directory.pings, peers, timeout_s=timeout_s)

    async def keep_watch(self) -> None:
        """Ping and look up until cancelled; a failure is logged, and the next turn tries again."""
        while True:
            try:
                await self.ping_servers()
                await asyncio.sleep(self._settings.update_period_s)
                await self.refresh()
            except Exception as error:  # the edge of a task that must live as long as the model
                log.warning("server_lookup_failed", model=self._model, error=type(error).__name__)
                await asyncio.sleep(self._settings.update_period_s)

    async def _refresh(self, *, probes: bool) -> None:
        last_started = self._last_started
        async with self._lookup_lock:
            if self._last_finished <= last_started:
                await self._look_up(probes=probes)
            if self._has_failed:  # for all who have waited for it
                timeout_s = self._settings.lookup_timeout_s
                raise DeadlineExceededError(f"no answer from the DHT within {timeout_s:g} s")

    async def _look_up(self, *, probes: bool) -> None:
        self._last_started += 1
        if probes:
            await self._probe_banned()
        try:
            async with asyncio.timeout(self._settings.lookup_timeout_s):
                found = await self._node.lookup(self._uids)
        except TimeoutError:
            self._has_failed = True
        else:
            self._has_failed = False
            self._directory.update(found, _now())
        self._last_finished = self._last_started

    async def _probe_banned(self) -> None:
        peers = self._directory.banned_peers(_now())[: self._settings.max_pinged]
        timeout_s = min(_PROBE_S, self._settings.ping_timeout_s)
        await measure(self._node, self._directory.pings, peers, timeout_s=timeout_s)
        self._directory.note_pings(peers)


def _now() -> float:
    return asyncio.get_running_loop().time()
