"""Finding open sessions for some blocks: choose a route, dial it, and on failure choose again.

A peer that failed is not tried again. Failures are bounded, and the search ends early when the
servers that are left cannot cover the blocks.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Protocol

from swarm_client.errors import CapacityError, NoRouteError
from swarm_client.routing import Route
from swarm_client.session.dialling import DialledRoute
from swarm_client.session.hop_session import HopSession
from swarm_client.session.losses import Losses
from swarm_protocol.identifiers import BlockRange, PeerId


class RouteSource(Protocol):
    """Where a search gets routes from."""

    async def refresh(self) -> None:
        """Look the servers up again."""

    def choose_route(
        self, blocks: BlockRange, *, num_cache_tokens: int, excluded: Collection[PeerId]
    ) -> Route:
        """Return the best route over `blocks` without `excluded` peers. Raises NoRouteError."""

    async def dial(self, route: Route, *, max_length: int, tenant: str) -> DialledRoute:
        """Open all hops of a route for so many tokens of each row, or none."""

    def report_failure(self, peer: PeerId) -> None:
        """Ban a peer that did not do what it should."""


class RouteSearch:
    """The searches of one session of a tenant, which needs memory for `max_length` tokens a row."""

    def __init__(self, source: RouteSource, *, max_length: int, tenant: str = "") -> None:
        self.max_length = max_length
        self._tenant = tenant
        self._source = source

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
            route = await self._choose_route(blocks, num_rows, losses)
            dialled = await self._source.dial(
                route, max_length=self.max_length, tenant=self._tenant
            )
            if not dialled.failures:
                return dialled.hops
            peers = [failure.peer for failure in dialled.failures]
            for peer in peers:
                self._source.report_failure(peer)
            now = asyncio.get_running_loop().time()
            losses.add(*peers, cause=dialled.failures[0], now=now)

    def report_failure(self, peer: PeerId) -> None:
        """Ban a peer for everybody."""
        self._source.report_failure(peer)

    async def _choose_route(self, blocks: BlockRange, num_rows: int, losses: Losses) -> Route:
        def choose() -> Route:
            return self._source.choose_route(
                blocks,
                num_cache_tokens=self.max_length * num_rows,
                excluded=losses.failed,
            )

        try:
            return choose()
        except NoRouteError:
            await self._source.refresh()
        try:
            return choose()
        except NoRouteError as error:
            if isinstance(losses.latest, CapacityError):
                raise losses.latest from error
            raise error from losses.latest
