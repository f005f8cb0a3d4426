"""The router finds the cheapest route, and names what is missing."""

from dataclasses import replace
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_client.errors import NoRouteError
from swarm_client.routing import Candidate, Hop, Route, choose_route, uncovered_blocks
from swarm_protocol.identifiers import BlockRange, PeerId

NUM_BLOCKS = 5
ALL = BlockRange(0, NUM_BLOCKS)


def server(name: str, blocks: str, **facts: object) -> Candidate:
    return Candidate(PeerId(name), BlockRange.parse(blocks), **facts)  # type: ignore[arg-type]


def written(route: Route) -> list[str]:
    return [f"{hop.peer} {hop.blocks}" for hop in route]


def cost(route: Route, candidates: list[Candidate], num_cache_tokens: int) -> tuple[int, float]:
    """Add up a route's cost from the table of PETALS_PROTOCOL §6.3, independently of the router.

    But for the way from server to server, which may lead through us.
    """
    by_peer = {candidate.peer: candidate for candidate in candidates}

    def delay(round_trip_s: float | None) -> float:
        return 0.15 if round_trip_s is None else min(round_trip_s / 2, 5.0)

    def way(before: Candidate, after: Candidate) -> float:
        ways = []
        if after.ping_s != inf and after.peer in before.next_pings:
            ways.append(delay(before.next_pings[after.peer]))
        if before.ping_s is not None and after.ping_s is not None:
            ways.append(min(delay(before.ping_s) + delay(after.ping_s), 5.0))
        return min(ways, default=0.15)

    first, last = by_peer[route[0].peer], by_peer[route[-1].peer]
    seconds = delay(first.ping_s) + delay(last.ping_s)
    for before, after in pairwise(route):
        seconds += way(by_peer[before.peer], by_peer[after.peer])
    for hop in route:
        candidate = by_peer[hop.peer]
        seconds += 0.018 + len(hop.blocks) / (candidate.rate_tokens_per_s or 300)
        needed = 2 * num_cache_tokens * len(candidate.blocks)
        left = candidate.cache_tokens_left
        seconds += 10 if left is not None and needed > left else 0
    return sum(by_peer[hop.peer].is_avoided for hop in route), seconds


def all_routes(candidates: list[Candidate], start: int = 0) -> list[Route]:
    """Return every route: any server that holds the next block, used to its span's end."""
    if start == NUM_BLOCKS:
        return [()]
    return [
        (Hop(c.peer, BlockRange(start, c.blocks.end)), *rest)
        for c in candidates
        if start in c.blocks
        for rest in all_routes(candidates, c.blocks.end)
    ]


pings = st.one_of(st.none(), st.floats(0, 20), st.just(inf))


@st.composite
def swarms(draw: st.DrawFn) -> list[Candidate]:
    names = [f"s{index}" for index in range(draw(st.integers(1, 6)))]
    candidates = []
    for name in names:
        start = draw(st.integers(0, NUM_BLOCKS - 1))
        candidates.append(
            Candidate(
                PeerId(name),
                BlockRange(start, draw(st.integers(start + 1, NUM_BLOCKS))),
                ping_s=draw(pings),
                rate_tokens_per_s=draw(st.one_of(st.none(), st.floats(0.1, 1000))),
                next_pings=draw(st.dictionaries(st.sampled_from(names), st.floats(0, 20))),
                cache_tokens_left=draw(st.one_of(st.none(), st.integers(0, 1000))),
                is_avoided=draw(st.booleans()),
            )
        )
    return candidates


@settings(max_examples=200, deadline=None)
@given(candidates=swarms())
def test_no_route_is_cheaper_than_the_chosen_one(candidates: list[Candidate]) -> None:
    """Compared with every route there is; without a route, the gaps are named."""
    routes = all_routes(candidates)

    if not routes:
        with pytest.raises(NoRouteError) as refused:
            choose_route(candidates, ALL, num_cache_tokens=50)
        spans = [candidate.blocks for candidate in candidates]
        assert refused.value.missing == uncovered_blocks(spans, ALL)
        return
    chosen = choose_route(candidates, ALL, num_cache_tokens=50)
    assert chosen in routes
    avoided, seconds = cost(chosen, candidates, 50)
    best = min(cost(route, candidates, 50) for route in routes)
    assert avoided == best[0]
    assert seconds == pytest.approx(best[1])


def test_a_server_is_entered_in_mid_span_and_used_to_its_end() -> None:
    """Overlapping spans make a route without a seam in common."""
    candidates = [server("a", "0:3"), server("b", "1:5")]

    assert written(choose_route(candidates, ALL, num_cache_tokens=1)) == ["a 0:3", "b 3:5"]


def test_a_near_server_goes_before_a_far_one() -> None:
    """Pings decide between servers of the same span."""
    candidates = [server("far", "0:5", ping_s=0.4), server("near", "0:5", ping_s=0.01)]

    assert written(choose_route(candidates, ALL, num_cache_tokens=1)) == ["near 0:5"]


def test_two_fast_servers_beat_a_slow_one() -> None:
    """Compute time decides when the way is short."""
    candidates = [
        server("slow", "0:5", ping_s=0.0, rate_tokens_per_s=1.0),
        server("a", "0:2", ping_s=0.0, next_pings={"b": 0.0}),
        server("b", "2:5", ping_s=0.0),
    ]

    assert written(choose_route(candidates, ALL, num_cache_tokens=1)) == ["a 0:2", "b 2:5"]


def test_a_server_short_of_memory_is_used_last() -> None:
    """Memory is announced for keys and values apart, and shared by the whole span."""
    candidates = [
        server("full", "0:5", ping_s=0.0, cache_tokens_left=2 * 5 * 100 - 1),
        server("roomy", "0:5", ping_s=9.0, cache_tokens_left=2 * 5 * 100),
    ]

    assert written(choose_route(candidates, ALL, num_cache_tokens=100)) == ["roomy 0:5"]


def test_an_avoided_server_is_used_only_where_no_other_can_be() -> None:
    """However slow the others are."""
    candidates = [
        server("banned", "0:5", ping_s=0.0, is_avoided=True),
        server("slow", "0:3", ping_s=inf, rate_tokens_per_s=0.01),
    ]

    assert written(choose_route(candidates, ALL, num_cache_tokens=1)) == ["banned 0:5"]
    others = [*candidates, server("slower", "2:5", ping_s=inf, rate_tokens_per_s=0.01)]
    assert written(choose_route(others, ALL, num_cache_tokens=1)) == ["slow 0:3", "slower 3:5"]


def test_gaps_are_named_as_ranges() -> None:
    """At the start, in the middle and at the end."""
    with pytest.raises(NoRouteError, match="0:1, 2:3, 4:5") as refused:
        choose_route([server("a", "1:2"), server("b", "3:4")], ALL, num_cache_tokens=1)

    assert refused.value.missing == (BlockRange(0, 1), BlockRange(2, 3), BlockRange(4, 5))


def test_an_empty_swarm_misses_everything() -> None:
    """No servers, one gap."""
    assert uncovered_blocks([], ALL) == (ALL,)


def test_a_route_over_a_part_enters_and_leaves_in_mid_span() -> None:
    """Servers outside the part do not matter, and their gaps are not missed."""
    candidates = [server("a", "0:2"), server("b", "1:5"), server("c", "4:5")]

    assert written(choose_route(candidates, BlockRange(2, 4), num_cache_tokens=1)) == ["b 2:4"]
    assert written(choose_route(candidates[:1], BlockRange(1, 2), num_cache_tokens=1)) == ["a 1:2"]


def test_gaps_of_a_part_are_only_those_inside_it() -> None:
    """What lies before and after is nobody's concern."""
    spans = [BlockRange(0, 1), BlockRange(2, 3), BlockRange(4, 5)]

    assert uncovered_blocks(spans, BlockRange(1, 3)) == (BlockRange(1, 2),)
    assert uncovered_blocks(spans, BlockRange(2, 3)) == ()


@pytest.mark.parametrize(("slow_s", "expected"), [(9.9, "slow"), (10.1, "gone")])
def test_a_server_out_of_our_reach_costs_five_seconds_each_way(
    slow_s: float, expected: str
) -> None:
    """A slow one may be faster."""
    rate = NUM_BLOCKS / slow_s
    candidates = [
        server("gone", "0:5", ping_s=inf, rate_tokens_per_s=1e9),
        server("slow", "0:5", ping_s=0.0, rate_tokens_per_s=rate),
    ]

    assert written(choose_route(candidates, ALL, num_cache_tokens=1)) == [f"{expected} 0:5"]


def test_outputs_may_take_the_way_through_us() -> None:
    """A server that does not reach the next one, or does not say so, costs both pings' halves."""
    candidates = [
        server("a", "0:2", ping_s=0.02, next_pings={"b": inf}),
        server("b", "2:5", ping_s=0.04),
        server("c", "2:5", ping_s=0.05),
    ]

    assert written(choose_route(candidates, ALL, num_cache_tokens=1)) == ["a 0:2", "b 2:5"]
    candidates[0] = replace(candidates[0], next_pings={"c": 0.001})
    assert written(choose_route(candidates, ALL, num_cache_tokens=1)) == ["a 0:2", "c 2:5"]
