"""Finding an open route for one session: choose, dial, and on failure choose again.

A peer that failed a search is not tried again by it. Retries are bounded, and end early when the
servers that are left cannot cover the model.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from swarm_client.errors import CapacityError, NoRouteError
from swarm_client.routing import Route
from swarm_client.session.dialling import DialledRoute
from swarm_client.session.hop_stream import HopStream
from swarm_protocol.errors import SwarmError
from swarm_protocol.identifiers import BlockRange, PeerId


class RouteSource(Protocol):
    """Where a search gets routes from."""

    async def refresh(self) -> None:
        """Look the servers up again."""

    def choose_route(
        self, blocks: BlockRange, *, num_cache_tokens: int, excluded: Collection[PeerId]
    ) -> Route:
        """Return the best route over `blocks` without `excluded` peers. Raises NoRouteError."""

    async def dial(self, route: Route) -> DialledRoute:
        """Open all hops of a route, or none."""

    def report_failure(self, peer: PeerId) -> None:
        """Ban a peer that did not do what it should."""


class RouteSearch:
    """The search of one session; it lives as long as the session does."""

    def __init__(
        self, source: RouteSource, blocks: BlockRange, *, num_cache_tokens: int, max_retries: int
    ) -> None:
        self._source = source
        self._blocks = blocks
        self._num_cache_tokens = num_cache_tokens
        self._retries_left = max_retries
        self._failed: set[PeerId] = set()

    async def open(self) -> Sequence[HopStream]:
        """Return the open hops of a route.

        Raises:
            NoRouteError: the servers that did not fail leave gaps.
            PeerError: out of retries; the last failure.
        """
        return await self._open(cause=None)

    async def open_another(self, failed: PeerId, cause: SwarmError) -> Sequence[HopStream]:
        """Return the open hops of a route without `failed`, whose session never got anywhere.

        Raises:
            CapacityError, SessionLostError: `cause`, when there is no other way.
            NoRouteError, PeerError: as `open` does.
        """
        self._failed.add(failed)
        self._use_up_retry(cause)
        return await self._open(cause)

    def report_failure(self, peer: PeerId) -> None:
        """Ban a peer for everybody."""
        self._source.report_failure(peer)

    async def _open(self, cause: SwarmError | None) -> Sequence[HopStream]:
        while True:
            dialled = await self._source.dial(await self._choose_route(cause))
            if not dialled.failures:
                return dialled.hops
            for failure in dialled.failures:
                self._source.report_failure(failure.peer)
                self._failed.add(failure.peer)
            cause = dialled.failures[0]
            self._use_up_retry(cause)

    async def _choose_route(self, cause: SwarmError | None) -> Route:
        try:
            return self._choose_known()
        except NoRouteError:
            await self._source.refresh()
        try:
            return self._choose_known()
        except NoRouteError as error:
            if isinstance(cause, CapacityError):
                raise cause from error
            raise error from cause

    def _choose_known(self) -> Route:
        return self._source.choose_route(
            self._blocks, num_cache_tokens=self._num_cache_tokens, excluded=self._failed
        )

    def _use_up_retry(self, cause: SwarmError) -> None:
        if self._retries_left == 0:
            raise cause
        self._retries_left -= 1
