"""The servers of one model: chosen, dialled, reported. The shell around `Directory`."""

import asyncio
from collections.abc import Collection
from math import inf
from random import Random

from swarm_client.directory import Directory
from swarm_client.errors import NoRouteError, is_silence
from swarm_client.lanes import Lanes
from swarm_client.models.facts import ModelFacts
from swarm_client.peer_descriptions import PeerDescriptions
from swarm_client.pulses import Pulses
from swarm_client.routing import (
    Candidate,
    Hop,
    Route,
    choose_route,
    explain_route,
    sample_route,
    uncovered_blocks,
)
from swarm_client.routing.costs import route_costs
from swarm_client.routing.latencies import HopLatencies
from swarm_client.server_watch import ServerWatch
from swarm_client.session.dialling import DialledRoute, Dialler, DialProgress
from swarm_client.settings import RoutingSettings
from swarm_client.standbys import Standbys
from swarm_client.training import SpanCalls, TrainingPasses
from swarm_protocol.errors import PeerError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.logs import get_logger
from swarm_protocol.node import Node
from swarm_protocol.pings import measure

log = get_logger(__name__)


class ModelServers:
    """Opens routes from a `Directory`, and tells it what is learned of servers (`RouteSource`).

    Attributes:
        directory: what is known of the servers.
        watch: keeps it true to the swarm.
    """

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
        self.watch = ServerWatch(node, self.directory, facts, settings)
        self._pulses = Pulses(node, self.directory.pings)
        self._descriptions = PeerDescriptions(node, facts)
        self._lanes = Lanes(
            node,
            dht_prefix=facts.dht_prefix,
            hidden_size=facts.hidden_size,
            timeout_s=settings.connect_timeout_s,
            stay_awake_s=settings.stay_awake_s,
            on_leaving=self._leave,
            on_lost=self.report_silence,
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
        self._standbys = Standbys(self._find_detour, self._greet, self._avoid)
        self._is_moving = False

    async def refresh(self) -> None:
        """Look the servers up; see `ServerWatch`, as for the next one."""
        await self.watch.refresh()

    async def refresh_soon(self) -> None:
        """Return after a moment, when the servers have been looked up by somebody."""
        await self.watch.refresh_soon()

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
        dialled = await self._dialler.dial(
            route, max_length=max_length, tenant=tenant, progress=progress
        )
        if dialled.hops:
            for hop in route:
                self.directory.note_reached(hop.peer)
            self._standbys.look_out(route)
        return dialled

    def report_failure(self, peer: PeerId, *, is_silent: bool = False) -> None:
        """Ban a peer for everybody who uses this model here; it could not be reached if silent."""
        now = _now()
        if not self.directory.is_banned(peer, now):
            log.warning("peer_banned", peer=peer, model=self._facts.source)
        self.directory.ban(peer, now, is_silent=is_silent)
        self._pulses.forget(peer)
        self._descriptions.forget(peer)
        self._lanes.forget(peer)

    def report_silence(self, peer: PeerId) -> None:
        """Count a peer as out of reach until it is measured again."""
        log.info("peer_hesitated", peer=peer, model=self._facts.source)
        self.directory.pings.record(peer, inf)

    def report_late(self, peer: PeerId) -> None:
        """Ban a peer that does not answer pings; `report_silence` of one that does."""
        if self._pulses.is_silent(peer):
            self.report_failure(peer, is_silent=True)
        else:
            self.report_silence(peer)

    async def answers_ping(self, peer: PeerId, others: Collection[PeerId] = ()) -> bool:
        """Tell whether a peer answers a ping soon; see `Pulses`."""
        return await self._pulses.answers(peer, others)

    def is_silent(self, peer: PeerId) -> bool:
        """Tell whether a peer has not answered a ping since it was asked; see `Pulses`."""
        return self._pulses.is_silent(peer)

    def is_leaving(self, peer: PeerId) -> bool:
        """Tell whether a server has said that it is about to stop."""
        return self.directory.is_leaving(peer, _now())

    def has_returned(self, peer: PeerId) -> bool:
        """Tell whether a peer that failed may be tried again where there is no other."""
        return self.directory.has_returned(peer, _now())

    def latencies(self, hop: Hop) -> HopLatencies:
        """Return how long steps take at a hop, to be read and recorded."""
        return self.directory.latencies.of(hop)

    def expected_s(self, hop: Hop, num_tokens: int) -> float | None:
        """Return how long a step may usually take at a stranger; see `Directory`."""
        return self.directory.expected_s(hop, num_tokens, _now())

    def time_elsewhere_s(self, hop: Hop, *, num_rows: int, num_cache_tokens: int) -> float | None:
        """Return the time of a decode step over a hop's blocks at the best other servers.

        As measured or, where we do not use them, as estimated. None when there are none, or they
        failed a moment ago.
        """
        now = _now()
        others = [c for c in self.directory.candidates(now, {hop.peer}) if not c.is_avoided]
        try:
            route = choose_route(others, hop.blocks, num_cache_tokens=num_cache_tokens)
        except NoRouteError:
            return None
        measured = [self.latencies(one).usual_s(num_rows, now) for one in route]
        known = [time_s for time_s in measured if time_s is not None]
        if len(known) == len(route):
            return sum(known)
        costs = route_costs(route, others, num_cache_tokens)
        return sum(cost.total_s for cost in costs)

    def claim_move(self) -> bool:
        """Tell whether a session may begin to leave a slow server: one at a time.

        So the others see what it has done to the times there.
        """
        is_free, self._is_moving = not self._is_moving, True
        return is_free

    def release_move(self) -> None:
        """The session that claimed it has moved, or not."""
        self._is_moving = False

    def _leave(self, peer: PeerId) -> None:
        """A server is about to stop: sessions move away, and nobody comes."""
        log.info("server_leaves", peer=peer, model=self._facts.source)
        self.directory.leave(peer, _now())
        self._descriptions.forget(peer)
        self._lanes.forget(peer)

    async def close(self) -> None:
        """End the streams that sessions share; sessions on them fail. Idempotent."""
        await self._standbys.close()
        await self._pulses.close()
        await self._lanes.close()

    async def _greet(self, hop: Hop) -> None:
        """Connect to a server; one that can be reached goes before those that nobody knows."""
        await self._dialler.greet(hop)
        if self.directory.needs_ping(hop.peer):
            timeout_s = self._settings.ping_timeout_s
            await measure(self._node, self.directory.pings, [hop.peer], timeout_s=timeout_s)

    def _avoid(self, failure: PeerError) -> None:
        """Ban a peer that could not be greeted, as one that could not be dialled."""
        self.report_failure(failure.peer, is_silent=is_silence(failure))

    def _find_detour(self, hop: Hop) -> Route:
        """Return the route that would take a hop's place. Raises NoRouteError."""
        return choose_route(
            self._candidates(hop.blocks, {hop.peer}), hop.blocks, num_cache_tokens=0
        )

    def _candidates(self, blocks: BlockRange, excluded: Collection[PeerId]) -> list[Candidate]:
        """Return the servers that a route over `blocks` may use. Raises NoRouteError."""
        candidates = self.directory.candidates(_now(), excluded)
        missing = uncovered_blocks((candidate.blocks for candidate in candidates), blocks)
        if missing:
            raise NoRouteError(missing, adapter=self._active_adapter)
        return candidates


def _now() -> float:
    return asyncio.get_running_loop().time()
