"""A random route for a forward or backward pass, so that passes spread over the servers.

Long spans are preferred, which keeps routes short: Petals' "max throughput" routing
(PETALS_PROTOCOL §6.4). Avoided servers are used only for blocks that no other server holds.
"""

from collections.abc import Sequence
from math import isinf
from random import Random
from typing import Final

from swarm_client.errors import NoRouteError
from swarm_client.routing.costs import Candidate
from swarm_client.routing.route import Hop, Route, uncovered_blocks
from swarm_protocol.identifiers import BlockRange

_UNREACHABLE_WEIGHT: Final = 1e-6


def sample_route(candidates: Sequence[Candidate], blocks: BlockRange, random: Random) -> Route:
    """Return a route over `blocks`, each hop drawn in proportion to the length of its span.

    A server may be entered in the middle of its span, and is used to its end.

    Raises:
        NoRouteError: the candidates leave gaps.
    """
    gaps = uncovered_blocks((candidate.blocks for candidate in candidates), blocks)
    if gaps:
        raise NoRouteError(gaps)
    hops: list[Hop] = []
    start = blocks.start
    while start < blocks.end:
        chosen = _draw([c for c in candidates if start in c.blocks], random)
        end = min(chosen.blocks.end, blocks.end)
        hops.append(Hop(chosen.peer, BlockRange(start, end)))
        start = end
    return tuple(hops)


def _draw(holders: Sequence[Candidate], random: Random) -> Candidate:
    """Return one of the servers that hold the next block."""
    preferred = [candidate for candidate in holders if not candidate.is_avoided] or holders
    return random.choices(preferred, [_weight(candidate) for candidate in preferred])[0]


def _weight(candidate: Candidate) -> float:
    is_reachable = candidate.ping_s is None or not isinf(candidate.ping_s)
    return float(len(candidate.blocks)) if is_reachable else _UNREACHABLE_WEIGHT
