"""Finding open sessions for some blocks: choose a route, dial it, and on failure choose again.

A peer that failed is not tried again, unless nobody else serves its blocks and it has returned.
Failures are bounded, but for those of peers that do not answer: records outlive their servers, so
each of them is tried once. Blocks that nobody serves are waited for as long as the losses allow.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final, Protocol

from swarm_client.errors import NoRouteError, is_silence
from swarm_client.routing import Hop, Route
from swarm_client.routing.latencies import HopLatencies
from swarm_client.session.dialling import DialledRoute, DialProgress
from swarm_client.session.events import EventListener, SessionEvent, WaitingForBlocks
from swarm_client.session.hedged_dialling import dial_hedged
from swarm_client.session.hop_session import HopSession
from swarm_client.session.losses import Losses
from swarm_protocol.errors import DeadlineExceededError
from swarm_protocol.identifiers import BlockRange, PeerId

_FIRST_LOOK_S: Final = 1.0
"""A caller who can wait is told for what by then, though half of the DHT be cut off."""


class RouteSource(Protocol):
    """Where a search gets routes from."""

    async def refresh(self) -> None:
        """Look the servers up again."""

    async def refresh_soon(self) -> None:
        """Return after a moment, when the servers have been looked up again by somebody."""

    def choose_route(
        self, blocks: BlockRange, *, num_cache_tokens: int, excluded: Collection[PeerId]
    ) -> Route:
        """Return the best route over `blocks` without `excluded` peers. Raises NoRouteError."""

    async def dial(
        self,
        route: Route,
        *,
        max_length: int,
        tenant: str,
        progress: DialProgress,
    ) -> DialledRoute:
        """Open all hops of a route for so many tokens of each row, or none."""

    def report_failure(self, peer: PeerId, *, is_silent: bool = False) -> None:
        """Ban a peer that did not do what it should, or could not be reached."""

    def report_silence(self, peer: PeerId) -> None:
        """Count a peer as out of reach until it is measured again."""

    def report_late(self, peer: PeerId) -> None:
        """Ban a peer that does not answer pings; `report_silence` of one that does."""

    async def answers_ping(self, peer: PeerId, others: Collection[PeerId]) -> bool:
        """Tell whether a peer answers a ping soon; others are asked as well, for later."""

    def is_silent(self, peer: PeerId) -> bool:
        """Tell whether a peer has not answered a ping, and has given no sign of life since."""

    def is_leaving(self, peer: PeerId) -> bool:
        """Tell whether a server has said that it is about to stop."""

    def has_returned(self, peer: PeerId) -> bool:
        """Tell whether a peer that failed may be tried again where there is no other."""

    def latencies(self, hop: Hop) -> HopLatencies:
        """Return how long steps take at a hop, to be read and recorded."""

    def expected_s(self, hop: Hop, num_tokens: int) -> float | None:
        """Return how long a step may usually take at a stranger; None if nobody knows."""

    def time_elsewhere_s(self, hop: Hop, *, num_rows: int, num_cache_tokens: int) -> float | None:
        """Return the time of a decode step over a hop's blocks at the best other servers.

        None when there are none, or they failed a moment ago.
        """

    def claim_move(self) -> bool:
        """Tell whether a session may begin to leave a slow server: one at a time."""

    def release_move(self) -> None:
        """The session that claimed it has moved, or not."""


class RouteSearch:
    """The searches of one session of a tenant, which needs memory for `max_length` tokens a row."""

    def __init__(
        self,
        source: RouteSource,
        *,
        max_length: int,
        tenant: str = "",
        opening_wait_s: float = 0.0,
        hedge_after_s: float = 0.5,
        on_event: EventListener | None = None,
    ) -> None:
        """Prepare to search.

        Args:
            source: knows the servers, and dials them.
            max_length: tokens that each row may have at most.
            tenant: on whose behalf.
            opening_wait_s: for servers to join while there is nothing to lose yet.
            hedge_after_s: see `dial_hedged`.
            on_event: see `RemoteModel.open_session`.
        """
        self.max_length = max_length
        self.opening_wait_s = opening_wait_s
        self._tenant = tenant
        self._source = source
        self._hedge_after_s = hedge_after_s
        self._on_event = on_event

    async def open(
        self, blocks: BlockRange, *, num_rows: int, losses: Losses
    ) -> Sequence[HopSession]:
        """Return the open sessions of a route over `blocks`, in route order.

        Raises:
            NoRouteError: the servers that did not fail leave gaps; the latest loss is chained.
            CapacityError: so they do, and the latest loss is a server that has no memory.
            PeerError: too many losses; the last failure.
        """
        while True:
            route = await self._find_route(blocks, num_rows, losses)
            dialled = await dial_hedged(
                route,
                self._dial,
                lambda peers: self._find_detour(blocks, num_rows, losses.failed | peers),
                hedge_after_s=self._hedge_after_s,
                on_silence=self._source.report_silence,
            )
            for failure in dialled.failures:
                self._source.report_failure(failure.peer, is_silent=is_silence(failure))
            if dialled.hops:
                return dialled.hops
            losses.add(
                *[failure.peer for failure in dialled.failures],
                cause=dialled.failures[0],
                now=asyncio.get_running_loop().time(),
                is_unanswered=all(map(is_silence, dialled.failures)),
            )

    def quietly(self) -> "RouteSearch":
        """Return the same search, but telling nothing."""
        return RouteSearch(
            self._source,
            max_length=self.max_length,
            tenant=self._tenant,
            hedge_after_s=self._hedge_after_s,
        )

    def report_failure(self, peer: PeerId, *, is_silent: bool = False) -> None:
        """Ban a peer for everybody."""
        self._source.report_failure(peer, is_silent=is_silent)

    def report_late(self, peer: PeerId) -> None:
        """See `RouteSource`, as for the next one."""
        self._source.report_late(peer)

    async def answers_ping(self, peer: PeerId, others: Collection[PeerId]) -> bool:
        """Pings are shared by all sessions."""
        return await self._source.answers_ping(peer, others)

    def is_silent(self, peer: PeerId) -> bool:
        """Tell whether a peer has not answered a ping, and has given no sign of life since."""
        return self._source.is_silent(peer)

    def expected_s(self, hop: Hop, num_tokens: int) -> float | None:
        """Return how long a step may usually take at a stranger; None if nobody knows."""
        return self._source.expected_s(hop, num_tokens)

    def latencies(self, hop: Hop) -> HopLatencies:
        """Return how long steps take at a hop, in all sessions."""
        return self._source.latencies(hop)

    def is_leaving(self, peer: PeerId) -> bool:
        """See `Elsewhere`, as for the next three."""
        return self._source.is_leaving(peer)

    def time_elsewhere_s(self, hop: Hop, num_rows: int) -> float | None:
        """In sessions like this one."""
        num_cache_tokens = self.max_length * num_rows
        return self._source.time_elsewhere_s(
            hop, num_rows=num_rows, num_cache_tokens=num_cache_tokens
        )

    def claim_move(self) -> bool:
        """One of a model at a time."""
        return self._source.claim_move()

    def release_move(self) -> None:
        """It is over."""
        self._source.release_move()

    def tell(self, event: SessionEvent) -> None:
        """Tell the session's owner, if they want to know."""
        if self._on_event is not None:
            self._on_event(event)

    async def _dial(self, route: Route, progress: DialProgress) -> DialledRoute:
        return await self._source.dial(
            route, max_length=self.max_length, tenant=self._tenant, progress=progress
        )

    def _choose_route(
        self, blocks: BlockRange, num_rows: int, excluded: Collection[PeerId]
    ) -> Route:
        num_cache_tokens = self.max_length * num_rows
        return self._source.choose_route(
            blocks, num_cache_tokens=num_cache_tokens, excluded=excluded
        )

    def _find_detour(
        self, blocks: BlockRange, num_rows: int, excluded: Collection[PeerId]
    ) -> Route | None:
        try:
            return self._choose_route(blocks, num_rows, excluded)
        except NoRouteError:
            return None

    async def _find_route(self, blocks: BlockRange, num_rows: int, losses: Losses) -> Route:
        """Return the best route; when there is none, look again, and wait for one."""
        route = self._find_detour(blocks, num_rows, losses.failed)
        if route is not None:
            return route
        now = asyncio.get_running_loop().time
        wait = losses.begin_waiting(now())
        await self._refresh(losses)
        told: Sequence[BlockRange] = ()
        while True:
            try:
                route = self._choose_route(blocks, num_rows, losses.failed)
            except NoRouteError as error:
                left_s = losses.wait_left_s(wait, error, now())
                if error.missing != told:
                    told = error.missing
                    self.tell(WaitingForBlocks(told, left_s))
            else:
                losses.end_waiting(wait, now())
                return route
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._source.refresh_soon()
            losses.forgive(filter(self._source.has_returned, [*losses.failed]))

    async def _refresh(self, losses: Losses) -> None:
        """Look the servers up; a DHT that does not answer may do so while they are waited for."""
        try:
            async with asyncio.timeout(_FIRST_LOOK_S if losses.may_wait else None):
                await self._source.refresh()
        except (DeadlineExceededError, TimeoutError):
            if not losses.may_wait:
                raise
