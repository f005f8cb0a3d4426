"""What a hop costs one decode step, in estimated seconds. Pure.

As in Petals (PETALS_PROTOCOL §6.3), but for what is sent from server to server: outputs that are
not pushed there go through us, and that takes what the pings to both say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isinf
from typing import Final, NamedTuple

from swarm_client.routing.route import Route
from swarm_protocol.identifiers import BlockRange, PeerId

_REQUEST_OVERHEAD_S: Final = 0.018
_UNKNOWN_DELAY_S: Final = 0.15
_MAX_DELAY_S: Final = 5.0
_SHORT_OF_MEMORY_S: Final = 10.0
_UNKNOWN_RATE: Final = 300.0  # tokens per second through one block


@dataclass(frozen=True, slots=True)
class Candidate:
    """An online server as the router sees it.

    Attributes:
        blocks: not empty, clipped to the model.
        ping_s: round trip from us; None if unknown, infinite if it did not answer.
        rate_tokens_per_s: decode speed of one block, as measured or as announced; None if unknown.
        next_pings: round trips from this server to others, in seconds, as it announces.
        cache_tokens_left: free KV memory as announced, keys and values counted apart.
        is_avoided: use it only where no other server can be used.
    """

    peer: PeerId
    blocks: BlockRange
    ping_s: float | None = None
    rate_tokens_per_s: float | None = None
    next_pings: Mapping[str, float] = field(default_factory=dict)
    cache_tokens_left: int | None = None
    is_avoided: bool = False


class HopCost(NamedTuple):
    """Parts of a hop's cost, in seconds.

    Attributes:
        link_s: to get there, from us or from the server before.
        memory_s: so much is added when KV memory seems to be short.
        request_s: for a request as such.
        compute_s: its blocks.
    """

    link_s: float
    memory_s: float
    request_s: float
    compute_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.link_s + self.memory_s + self.request_s + self.compute_s


def hop_cost(
    candidate: Candidate, previous: Candidate | None, num_blocks: int, num_cache_tokens: int
) -> HopCost:
    """Return what it costs to run some blocks of a server.

    Args:
        candidate: the server.
        previous: where the hidden states come from; None is us.
        num_blocks: that it runs, of its span.
        num_cache_tokens: KV memory the session needs, in tokens over all rows of its batch.
    """
    return HopCost(
        link_s=way_to_us(candidate) if previous is None else _way(previous, candidate),
        memory_s=_memory_penalty(candidate, num_cache_tokens),
        request_s=_REQUEST_OVERHEAD_S,
        compute_s=num_blocks / (candidate.rate_tokens_per_s or _UNKNOWN_RATE),
    )


def route_costs(
    route: Route, candidates: Sequence[Candidate], num_cache_tokens: int
) -> tuple[HopCost, ...]:
    """Return what each hop of a route costs, by the candidates that the route was chosen from."""
    by_peer = {candidate.peer: candidate for candidate in candidates}
    used = [by_peer[hop.peer] for hop in route]
    return tuple(
        hop_cost(candidate, previous, len(hop.blocks), num_cache_tokens)
        for candidate, previous, hop in zip(used, [None, *used], route, strict=False)
    )


def way_to_us(candidate: Candidate) -> float:
    """Return the seconds between a server and us, one way."""
    way_s = _one_way(candidate.ping_s)
    return _UNKNOWN_DELAY_S if way_s is None else way_s


def _way(previous: Candidate, candidate: Candidate) -> float:
    """Whoever is out of our reach cannot be used, even if another server reaches it."""
    first, second = _one_way(previous.ping_s), _one_way(candidate.ping_s)
    relayed_s = None if first is None or second is None else min(first + second, _MAX_DELAY_S)
    is_reachable = candidate.ping_s is None or not isinf(candidate.ping_s)
    pushed_s = _one_way(previous.next_pings.get(candidate.peer)) if is_reachable else None
    known = [way_s for way_s in (pushed_s, relayed_s) if way_s is not None]
    return min(known, default=_UNKNOWN_DELAY_S)


def _one_way(round_trip_s: float | None) -> float | None:
    if round_trip_s is None or not round_trip_s >= 0:  # a peer may announce a NaN
        return None
    return min(round_trip_s / 2, _MAX_DELAY_S)


def _memory_penalty(candidate: Candidate, num_cache_tokens: int) -> float:
    """Announced memory counts keys and values apart and is shared by the whole span (§5.2)."""
    if candidate.cache_tokens_left is None:
        return 0.0
    needed = 2 * num_cache_tokens * len(candidate.blocks)
    return _SHORT_OF_MEMORY_S if needed > candidate.cache_tokens_left else 0.0
