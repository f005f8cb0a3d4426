"""The servers of one model: looked up, pinged, chosen, dialled. The shell around `Directory`."""

import asyncio
from collections.abc import Collection, Mapping
from math import inf
from random import Random
from typing import Final

from swarm_client.directory import Directory
from swarm_client.errors import NoRouteError
from swarm_client.lanes import Lanes
from swarm_client.models.facts import ModelFacts
from swarm_client.peer_descriptions import PeerDescriptions
from swarm_client.routing import (
    Candidate,
    Route,
    choose_route,
    explain_route,
    sample_route,
    uncovered_blocks,
)
from swarm_client.session.dialling import DialledRoute, Dialler, DialProgress
from swarm_client.settings import RoutingSettings
from swarm_client.training import SpanCalls, TrainingPasses
from swarm_protocol.errors import DeadlineExceededError, SwarmError
from swarm_protocol.identifiers import BlockRange, PeerId, make_uid
from swarm_protocol.logs import get_logger
from swarm_protocol.node import FoundRecord, Node

log = get_logger(__name__)

_MOMENT_S: Final = 0.25


class ModelServers:
    """Keeps a `Directory` true to the swarm, and opens routes from it (`RouteSource`)."""

    def __init__(
        self,
        node: Node,
        facts: ModelFacts,
        settings: RoutingSettings,
        *,
        active_adapter: str | None = None,
    ) -> None:
        self.directory = Directory(
            facts,
            ban_s=settings.ban_s,
            adapter=active_adapter,
            allowed=settings.allowed_servers,
            blocked=settings.blocked_servers,
        )
        self._active_adapter = active_adapter
        self._node = node
        self._facts = facts
        self._settings = settings
        self._uids = [make_uid(facts.dht_prefix, index) for index in range(facts.num_blocks)]
        self._descriptions = PeerDescriptions(node, facts)
        self._lanes = Lanes(
            node,
            dht_prefix=facts.dht_prefix,
            hidden_size=facts.hidden_size,
            timeout_s=settings.connect_timeout_s,
        )
        self._random = Random()
        self._dialler = Dialler(
            node,
            facts.dht_prefix,
            self._descriptions,
            self._lanes,
            settings,
            active_adapter=active_adapter,
        )
        self._lookup_lock = asyncio.Lock()
        self._last_started = 0  # look-ups are numbered
        self._last_finished = 0

    async def refresh(self) -> None:
        """Look all records up. Callers who come while a look-up is running share the next one.

        Raises:
            DeadlineExceededError: the DHT did not answer in time; what was known stays.
            NodeError: our own node has stopped.
        """
        last_started = self._last_started
        async with self._lookup_lock:
            if self._last_finished > last_started:
                return
            self._last_started += 1
            self.directory.update(await self._lookup(), _now())
            self._last_finished = self._last_started

    async def refresh_soon(self) -> None:
        """Return after a moment, when records have been looked up in the meantime.

        However many callers wait, there is one look-up a moment. A DHT that does not answer is
        logged only.
        """
        last_started = self._last_started
        await asyncio.sleep(_MOMENT_S)
        if self._last_finished <= last_started:
            try:
                await self.refresh()
            except DeadlineExceededError as error:
                log.warning("server_lookup_failed", model=self._facts.source, error=error.code)

    async def ping_servers(self) -> None:
        """Measure the round trips to the servers whose last measurement is oldest."""
        peers = self.directory.peers()[: self._settings.max_pinged]
        async with asyncio.TaskGroup() as tasks:
            for peer in peers:
                tasks.create_task(self._ping(peer))

    async def keep_watch(self) -> None:
        """Ping and look up until cancelled; a failure is logged, and the next turn tries again."""
        while True:
            try:
                await self.ping_servers()
                await asyncio.sleep(self._settings.update_period_s)
                await self.refresh()
            except Exception as error:  # the edge of a task that must live as long as the model
                log.warning(
                    "server_lookup_failed", model=self._facts.source, error=type(error).__name__
                )
                await asyncio.sleep(self._settings.update_period_s)

    def choose_route(
        self, blocks: BlockRange, *, num_cache_tokens: int, excluded: Collection[PeerId]
    ) -> Route:
        """Return the best route known over `blocks`. Raises NoRouteError."""
        candidates = self._candidates(blocks, excluded)
        route = choose_route(candidates, blocks, num_cache_tokens=num_cache_tokens)
        if self._settings.show_route:
            explanation = explain_route(route, candidates, num_cache_tokens=num_cache_tokens)
            log.info("route_chosen", model=self._facts.source, explanation=explanation)
        return route

    def sample_route(self, blocks: BlockRange, *, excluded: Collection[PeerId]) -> Route:
        """Return a random route over `blocks`, for passes. Raises NoRouteError."""
        return sample_route(self._candidates(blocks, excluded), blocks, self._random)

    def passes(self) -> TrainingPasses:
        """Return forward and backward passes over these servers."""
        calls = SpanCalls(
            self._node,
            self._facts.dht_prefix,
            self._descriptions,
            timeout_s=self._settings.request_timeout_s,
            active_adapter=self._active_adapter,
        )
        return TrainingPasses(self, calls, self._settings, self._random)

    async def dial(
        self, route: Route, *, max_length: int, tenant: str, progress: DialProgress
    ) -> DialledRoute:
        """Open all hops of a route, or none; see `Dialler.dial`."""
        return await self._dialler.dial(
            route, max_length=max_length, tenant=tenant, progress=progress
        )

    def report_failure(self, peer: PeerId) -> None:
        """Ban a peer for everybody who uses this model here."""
        log.warning("peer_banned", peer=peer, model=self._facts.source)
        self.directory.ban(peer, _now())
        self._descriptions.forget(peer)
        self._lanes.forget(peer)

    def report_silence(self, peer: PeerId) -> None:
        """Count a peer as out of reach until it is measured again."""
        log.info("peer_hesitated", peer=peer, model=self._facts.source)
        self.directory.record_ping(peer, inf)

    def has_returned(self, peer: PeerId) -> bool:
        """Tell whether a peer that failed may be tried again where there is no other."""
        return self.directory.has_returned(peer, _now())

    async def close(self) -> None:
        """End the streams that sessions share; sessions on them fail. Idempotent."""
        await self._lanes.close()

    def _candidates(self, blocks: BlockRange, excluded: Collection[PeerId]) -> list[Candidate]:
        """Return the servers that a route over `blocks` may use. Raises NoRouteError."""
        candidates = self.directory.candidates(_now(), excluded)
        missing = uncovered_blocks((candidate.blocks for candidate in candidates), blocks)
        if missing:
            raise NoRouteError(missing, adapter=self._active_adapter)
        return candidates

    async def _lookup(self) -> Mapping[str, Mapping[str, FoundRecord]]:
        timeout_s = self._settings.lookup_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._node.lookup(self._uids)
        except TimeoutError as error:
            raise DeadlineExceededError(f"no answer from the DHT within {timeout_s:g} s") from error

    async def _ping(self, peer: PeerId) -> None:
        try:
            async with asyncio.timeout(self._settings.ping_timeout_s):
                round_trip_s = await self._node.ping(peer)
        except (SwarmError, TimeoutError):
            round_trip_s = inf
        self.directory.record_ping(peer, round_trip_s)


def _now() -> float:
    return asyncio.get_running_loop().time()
