"""The fastest route for an inference session.

A server may be entered in the middle of its span but is always used to the span's end, so that
routes stay short. Avoided servers come last whatever their speed: costs compare by the number of
avoided hops first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from swarm_client.errors import NoRouteError
from swarm_client.routing.costs import Candidate, hop_cost, way_to_us
from swarm_client.routing.route import Hop, Route, uncovered_blocks
from swarm_protocol.identifiers import BlockRange


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
        key=lambda path: path.cost.plus(way_to_us(path.candidate)),
    )
    return _hops(last)


def _best_path_to(
    candidate: Candidate, wanted: BlockRange, paths: Sequence[_Path], num_cache_tokens: int
) -> _Path | None:
    end = min(candidate.blocks.end, wanted.end)

    def path_from(start: int, previous: _Path | None) -> _Path:
        before = None if previous is None else previous.candidate
        seconds = hop_cost(candidate, before, end - start, num_cache_tokens).total_s
        cost = (previous.cost if previous else _Cost(0, 0.0)).plus(seconds, candidate)
        return _Path(cost, candidate, Hop(candidate.peer, BlockRange(start, end)), previous)

    found: list[_Path] = []
    if wanted.start in candidate.blocks:
        found.append(path_from(wanted.start, None))
    for path in paths:
        entered_at = path.hop.blocks.end
        if candidate.blocks.start <= entered_at < end:
            found.append(path_from(entered_at, path))
    return min(found, key=lambda path: path.cost, default=None)


def _hops(last: _Path) -> Route:
    hops: list[Hop] = []
    path: _Path | None = last
    while path is not None:
        hops.append(path.hop)
        path = path.previous
    return tuple(reversed(hops))
