"""Opening the sessions of a route, all hops at once. The one place that opens any.

A hop counts as open when its server could be dialled and has described itself. What it refuses, it
refuses in the first step. Each server is spoken to in our own dialect if it knows that, and
otherwise in Petals'.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from swarm_client.peer_descriptions import PeerDescriptions
from swarm_client.routing import Hop, Route
from swarm_client.session.hop_session import HopSession, SessionTerms
from swarm_client.session.petals_hop_session import PetalsHopSession
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import PeerError, PeerUnreachableError
from swarm_protocol.identifiers import PeerId
from swarm_protocol.methods import RPC_INFERENCE
from swarm_protocol.node import Node


@dataclass(slots=True)
class DialledRoute:
    """Outcome of dialling: `hops` in route order, none if a server failed; and what failed."""

    hops: Sequence[HopSession] = ()
    failures: list[PeerError] = field(default_factory=list)


class DialProgress:
    """What is known of the servers of a route while they are dialled.

    Attributes:
        silent: have not answered yet.
        failures: of those that have failed.
    """

    def __init__(self, route: Route) -> None:
        self.silent = {hop.peer for hop in route}
        self.failures: list[PeerError] = []


class OwnDialect(Protocol):
    """Sessions in our own dialect (`Lanes`)."""

    async def session(self, hop: Hop, terms: SessionTerms) -> HopSession | None:
        """Return a new session with the hop's server; None when it speaks the Petals dialect.

        Raises:
            PeerError, NodeError: as `Dialler.dial` collects and raises them.
        """

    async def greet(self, peer: PeerId) -> bool:
        """Be ready to open sessions at a peer; False when it speaks the Petals dialect.

        Raises:
            PeerError, NodeError: as for a session.
        """

    def chain(self, sessions: Sequence[HopSession]) -> Sequence[HopSession]:
        """Return new sessions of consecutive hops, whose servers may talk to each other."""


class Dialler:
    """Opens sessions on servers of one model, with one adapter or none."""

    def __init__(
        self,
        node: Node,
        dht_prefix: str,
        descriptions: PeerDescriptions,
        own_dialect: OwnDialect,
        settings: RoutingSettings,
        *,
        active_adapter: str | None = None,
    ) -> None:
        self._node = node
        self._dht_prefix = dht_prefix
        self._descriptions = descriptions
        self._own_dialect = own_dialect
        self._settings = settings
        self._active_adapter = active_adapter

    async def dial(
        self,
        route: Route,
        *,
        max_length: int,
        tenant: str = "",
        progress: DialProgress | None = None,
    ) -> DialledRoute:
        """Open all hops of a route, or none.

        Args:
            route: not empty.
            max_length: tokens of each row that the KV caches must have room for.
            tenant: on whose behalf.
            progress: kept up to date until this returns, with the same failures.

        Raises:
            NodeError: our own node has stopped.
        """
        opened: dict[Hop, HopSession] = {}
        terms = self._terms(max_length, tenant)
        progress = progress or DialProgress(route)

        async def dial_hop(hop: Hop) -> None:
            try:
                opened[hop] = await self._dial_hop(hop, terms)
            except PeerError as error:
                progress.failures.append(error)
            progress.silent.discard(hop.peer)

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
        if progress.failures:
            _abandon(opened)
            return DialledRoute(failures=progress.failures)
        return DialledRoute(hops=self._own_dialect.chain([opened[hop] for hop in route]))

    async def greet(self, hop: Hop) -> None:
        """Be ready to open sessions at a hop's server, and learn whether it can be reached.

        Raises:
            PeerError, NodeError: as when it is dialled.
        """
        timeout_s = self._settings.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                if not await self._own_dialect.greet(hop.peer):
                    await self._descriptions.ask(hop)
        except TimeoutError as error:
            raise PeerUnreachableError(hop.peer, f"no greeting within {timeout_s:g} s") from error

    async def _dial_hop(self, hop: Hop, terms: SessionTerms) -> HopSession:
        timeout_s = self._settings.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                if session := await self._own_dialect.session(hop, terms):
                    return session
                description = await self._descriptions.ask(hop)
                stream = await self._node.open_stream(hop.peer, RPC_INFERENCE)
        except TimeoutError as error:
            raise PeerUnreachableError(hop.peer, f"not connected within {timeout_s:g} s") from error
        return PetalsHopSession(hop, stream, description, terms)

    def _terms(self, max_length: int, tenant: str) -> SessionTerms:
        return SessionTerms(
            dht_prefix=self._dht_prefix,
            active_adapter=self._active_adapter,
            max_length=max_length,
            tenant=tenant,
            max_step_tokens=self._settings.max_step_tokens,
            step_timeout_s=self._settings.request_timeout_s,
            close_timeout_s=self._settings.close_timeout_s,
            kv_wait_s=self._settings.kv_wait_s,
        )


def _abandon(opened: dict[Hop, HopSession]) -> None:
    for session in opened.values():
        session.abandon()
