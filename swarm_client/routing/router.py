"""The fastest route for an inference session.

A server may be entered in the middle of its span but is always used to the span's end, so that
routes stay short. Costs are the estimated seconds of one decode step, as in Petals' "min latency"
routing (PETALS_PROTOCOL §6.3). Avoided servers come last whatever their speed: costs compare by
the number of avoided hops first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from swarm_client.errors import NoRouteError
from swarm_client.routing.route import Hop, Route, uncovered_blocks
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
        rate_tokens_per_s: decode speed of one block; None if unknown.
        next_pings: round trips from this server to others, in seconds.
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


class _Cost(NamedTuple):
    num_avoided: int
    seconds: float

    def plus(self, seconds: float, candidate: Candidate | None = None) -> "_Cost":
        avoided = int(candidate is not None and candidate.is_avoided)
        return _Cost(self.num_avoided + avoided, self.seconds + seconds)


@dataclass(frozen=True, slots=True)
class _Path:
    """The cheapest way to have run the wanted blocks up to `hop`'s end, ending at `candidate`."""

    cost: _Cost
    candidate: Candidate
    hop: Hop
    previous: "_Path | None"


def choose_route(
    candidates: Sequence[Candidate], blocks: BlockRange, *, num_cache_tokens: int
) -> Route:
    """Return the cheapest route over `blocks`.

    Args:
        candidates: online servers, in any order.
        blocks: wanted, not empty.
        num_cache_tokens: KV memory the session needs, in tokens over all rows of its batch.

    Raises:
        NoRouteError: the candidates leave gaps.
    """
    gaps = uncovered_blocks((c.blocks for c in candidates), blocks)
    if gaps:
        raise NoRouteError(gaps)
    # A path ends where its last server's span ends, so in this order each one extends only
    # paths that are final already.
    paths: list[_Path] = []
    for candidate in sorted(candidates, key=lambda c: (c.blocks.end, c.peer)):
        best = _best_path_to(candidate, blocks, paths, num_cache_tokens)
        if best is not None:
            paths.append(best)
    last = min(
        (path for path in paths if path.hop.blocks.end == blocks.end),
        key=lambda path: path.cost.plus(_delay(path.candidate.ping_s)),
    )
    return _hops(last)


def _best_path_to(
    candidate: Candidate, wanted: BlockRange, paths: Sequence[_Path], num_cache_tokens: int
) -> _Path | None:
    end = min(candidate.blocks.end, wanted.end)
    entry_s = _REQUEST_OVERHEAD_S + _memory_penalty(candidate, num_cache_tokens)
    block_s = 1 / (candidate.rate_tokens_per_s or _UNKNOWN_RATE)

    def path_from(start: int, delay_s: float, previous: _Path | None) -> _Path:
        seconds = delay_s + entry_s + (end - start) * block_s
        cost = (previous.cost if previous else _Cost(0, 0.0)).plus(seconds, candidate)
        return _Path(cost, candidate, Hop(candidate.peer, BlockRange(start, end)), previous)

    found: list[_Path] = []
    if wanted.start in candidate.blocks:
        found.append(path_from(wanted.start, _delay(candidate.ping_s), None))
    for path in paths:
        entered_at = path.hop.blocks.end
        if candidate.blocks.start <= entered_at < end:
            delay_s = _delay(path.candidate.next_pings.get(candidate.peer))
            found.append(path_from(entered_at, delay_s, path))
    return min(found, key=lambda path: path.cost, default=None)


def _delay(round_trip_s: float | None) -> float:
    if round_trip_s is None or not round_trip_s >= 0:  # a peer may announce a NaN
        return _UNKNOWN_DELAY_S
    return min(round_trip_s / 2, _MAX_DELAY_S)


def _memory_penalty(candidate: Candidate, num_cache_tokens: int) -> float:
    """Announced memory counts keys and values apart and is shared by the whole span (§5.2)."""
    if candidate.cache_tokens_left is None:
        return 0.0
    needed = 2 * num_cache_tokens * len(candidate.blocks)
    return _SHORT_OF_MEMORY_S if needed > candidate.cache_tokens_left else 0.0


def _hops(last: _Path) -> Route:
    hops: list[Hop] = []
    path: _Path | None = last
    while path is not None:
        hops.append(path.hop)
        path = path.previous
    return tuple(reversed(hops))
