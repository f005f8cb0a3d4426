"""Dialling a route, and another one as well when servers of the first hesitate.

```
dial route ──────────── 0.5 s, b has not answered ───────── ... b answers after all: too late
                         └─ dial another without b ── open: it is used
```
"""

import asyncio
from collections.abc import Awaitable, Callable, Set
from typing import TypeAlias

from swarm_client.routing import Route
from swarm_client.session.dialling import DialledRoute, DialProgress
from swarm_protocol.identifiers import PeerId

Dial: TypeAlias = Callable[[Route, DialProgress], Awaitable[DialledRoute]]
"""Opens all hops of a route, or none; see `Dialler.dial`."""

Detour: TypeAlias = Callable[[Set[PeerId]], Route | None]
"""Gives the best route without some more peers; None when there is none."""


async def dial_hedged(
    route: Route,
    dial: Dial,
    find_detour: Detour,
    *,
    hedge_after_s: float,
    on_silence: Callable[[PeerId], None],
) -> DialledRoute:
    """Return the first of two routes that is open; `failures` are those of both.

    Args:
        route: dialled at once.
        dial: opens it, and a detour.
        find_detour: asked once, when servers have not answered.
        hedge_after_s: the time they have.
        on_silence: is told of servers that were not waited for.
    """
    progress = [DialProgress(route)]
    dials: list[asyncio.Future[DialledRoute]]
    dials = [asyncio.ensure_future(dial(route, progress[0]))]
    chosen = DialledRoute()
    try:
        await asyncio.wait(dials, timeout=hedge_after_s)
        if not dials[0].done() and (detour := find_detour(_not_open(progress[0]))) is not None:
            progress.append(DialProgress(detour))
            dials.append(asyncio.ensure_future(dial(detour, progress[1])))
        chosen = await _first_open(dials)
        await _drop(dials, chosen)
    except BaseException:
        await _drop(dials, DialledRoute())
        raise
    if chosen.hops:
        for peer in progress[0].silent:  # none if all of them are in use
            on_silence(peer)
    return DialledRoute(chosen.hops, [error for one in progress for error in one.failures])


def _not_open(progress: DialProgress) -> Set[PeerId]:
    return progress.silent | {failure.peer for failure in progress.failures}


async def _first_open(dials: list[asyncio.Future[DialledRoute]]) -> DialledRoute:
    """Return the first outcome with hops, or the last one."""
    outcome = DialledRoute()
    for dialled in asyncio.as_completed(dials):
        outcome = await dialled
        if outcome.hops:
            break
    return outcome


async def _drop(dials: list[asyncio.Future[DialledRoute]], chosen: DialledRoute) -> None:
    """End all dials, and abandon what they have opened, but for what was chosen."""
    for dialling in dials:
        dialling.cancel()
    await asyncio.wait(dials)
    for dialling in dials:
        if dialling.cancelled() or dialling.exception() is not None:
            continue
        if dialling.result() is not chosen:
            for session in dialling.result().hops:
                session.abandon()
