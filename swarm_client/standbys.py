"""Servers that would take over, greeted in advance: a connection takes longer than a short replay.

```
session ── route a, b ──> dialled          a is lost ── c is connected: open, replay
             └─ greet c, who would take over from a, and d, from b
```
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from swarm_client.routing import Hop, Route
from swarm_protocol.detached_tasks import start_detached
from swarm_protocol.errors import PeerError, SwarmError
from swarm_protocol.identifiers import PeerId

_PAUSE_S: Final = 1.0
_MAX_TRIES: Final = 3

FindDetour: TypeAlias = Callable[[Hop], Route]
"""Returns the route that would take a hop's place. Raises NoRouteError."""

Greet: TypeAlias = Callable[[Hop], Awaitable[None]]
"""Connects to a hop's server, if it is not connected. Raises PeerError or another SwarmError."""


class Standbys:
    """Those of the routes that are in use. Belongs to one event loop; end with `close`."""

    def __init__(
        self, find_detour: FindDetour, greet: Greet, on_failure: Callable[[PeerError], None]
    ) -> None:
        """Greet nobody yet.

        Args:
            find_detour: as a repair would find it.
            greet: at most once a second for each that is found.
            on_failure: is told who could not be greeted, so that it is not found again.
        """
        self._find_detour = find_detour
        self._greet = greet
        self._on_failure = on_failure
        self._next_at = 0.0
        self._greeting: asyncio.Task[None] | None = None

    def look_out(self, route: Route) -> None:
        """Greet those who would take over from servers of a route, beside what is going on.

        Of many routes at once, one is enough: sessions to come repeat it.
        """
        now = asyncio.get_running_loop().time()
        if now < self._next_at or (self._greeting is not None and not self._greeting.done()):
            return
        self._next_at = now + _PAUSE_S
        self._greeting = start_detached(self._greet_all(route))

    async def close(self) -> None:
        """Greet nobody any more. Idempotent."""
        if self._greeting is not None:
            self._greeting.cancel()
            await asyncio.wait([self._greeting])

    async def _greet_all(self, route: Route) -> None:
        for hop in route:
            await self._greet_detour(hop)

    async def _greet_detour(self, hop: Hop) -> None:
        failed = set[PeerId]()
        for _ in range(_MAX_TRIES):
            try:
                detour = self._find_detour(hop)
                if not failed.isdisjoint([standby.peer for standby in detour]):
                    return  # there are no others
                for standby in detour:
                    await self._greet(standby)
                return
            except PeerError as failure:  # a record outlives its server
                self._on_failure(failure)
                failed.add(failure.peer)
            except SwarmError:
                return  # nobody is left; or our own node has stopped, and who needs it is told
