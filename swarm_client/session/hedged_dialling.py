"""Dialling a route, and others as well while its servers hesitate.

```
dial route ──── 0.5 s, b has not answered ──── 0.5 s ──── ... b answers after all: too late
                 └─ dial another without b ──── c has not answered either
                                                 └─ dial one without b and c ── open: it is used
```
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Set
from typing import Final, TypeAlias

from swarm_client.routing import Route
from swarm_client.session.dialling import DialledRoute, DialProgress
from swarm_protocol.identifiers import PeerId

_MAX_ROUTES: Final = 4
"""Dialled at the same time: records of the dead cannot be told from others."""

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
    """Return the first of some routes that is open; `failures` are those of all.

    Args:
        route: dialled at once.
        dial: opens it, and detours.
        find_detour: asked for one more when servers have not answered, or one of them has failed
            beside others that have not.
        hedge_after_s: the time they have.
        on_silence: is told of servers that were not waited for.
    """
    dials: dict[asyncio.Future[DialledRoute], DialProgress] = {}
    hesitant: dict[asyncio.Future[DialledRoute], DialProgress] = {}
    chosen = DialledRoute()
    following: Route | None = route
    try:
        while not chosen.hops and (following is not None or _pending(dials)):
            if following is not None:
                progress = DialProgress(following)
                dials[asyncio.ensure_future(dial(following, progress))] = progress
            ended, _ = await asyncio.wait(
                _pending(dials), timeout=hedge_after_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not ended:
                hesitant = {one: dials[one] for one in _pending(dials)}
            chosen = next((one.result() for one in ended if one.result().hops), chosen)
            may_hedge = _pending(dials) and not chosen.hops and len(dials) < _MAX_ROUTES
            following = find_detour(_not_open(dials.values())) if may_hedge else None
        await _drop(dials, chosen)
    except BaseException:
        await _drop(dials, DialledRoute())
        raise
    if chosen.hops:
        for progress in hesitant.values():
            for peer in progress.silent:  # none if all of them are in use
                on_silence(peer)
    return DialledRoute(chosen.hops, [e for one in dials.values() for e in one.failures])


def _pending(
    dials: Collection[asyncio.Future[DialledRoute]],
) -> list[asyncio.Future[DialledRoute]]:
    return [dialling for dialling in dials if not dialling.done()]


def _not_open(dialled: Collection[DialProgress]) -> Set[PeerId]:
    silent = {peer for progress in dialled for peer in progress.silent}
    return silent | {failure.peer for progress in dialled for failure in progress.failures}


async def _drop(dials: Collection[asyncio.Future[DialledRoute]], chosen: DialledRoute) -> None:
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
