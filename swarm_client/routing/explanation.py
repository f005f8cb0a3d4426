"""A route in words: who runs what, why it is expected to be fast, and what speaks against it."""

from collections.abc import Sequence
from math import isinf

from swarm_client.routing.costs import Candidate, HopCost, route_costs, way_to_us
from swarm_client.routing.route import Hop, Route


def explain_route(route: Route, candidates: Sequence[Candidate], *, num_cache_tokens: int) -> str:
    """Return one line for the route and one for each hop.

    Times are the router's estimates for one decode step.

    Args:
        route: of these candidates, not empty.
        candidates: as the router saw them.
        num_cache_tokens: KV memory the session needs, in tokens over all rows of its batch.
    """
    by_peer = {candidate.peer: candidate for candidate in candidates}
    costs = route_costs(route, candidates, num_cache_tokens)
    lines: list[str] = []
    for hop, cost in zip(route, costs, strict=True):
        others = [c for c in candidates if c.peer != hop.peer and c.blocks.covers(hop.blocks)]
        lines.append(_line(hop, by_peer[hop.peer], cost, len(others)))
    total_s = sum(cost.total_s for cost in costs) + way_to_us(by_peer[route[-1].peer])
    first = f"{len(route)} hops" if len(route) > 1 else "1 hop"
    return "\n".join([f"{first}, about {_ms(total_s)} a token", *lines])


def _line(hop: Hop, candidate: Candidate, cost: HopCost, num_others: int) -> str:
    parts = [
        f"blocks {hop.blocks} by {hop.peer}",
        f"{_ms(cost.compute_s)} to compute{'' if candidate.rate_tokens_per_s else ' (a guess)'}",
        f"{_ms(cost.link_s)} to get there{'' if candidate.ping_s is not None else ' (a guess)'}",
    ]
    if hop.blocks != candidate.blocks:
        parts.append(f"of its span {candidate.blocks}")
    if candidate.ping_s is not None and isinf(candidate.ping_s):
        parts.append("it did not answer a ping")
    if cost.memory_s:
        parts.append("it seems to be short of KV memory")
    if candidate.is_avoided:
        parts.append("it failed a moment ago, and nobody else can be used")
    servers = "server has" if num_others == 1 else "servers have"
    parts.append(f"{num_others} other {servers} these blocks")
    return "; ".join(parts)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
