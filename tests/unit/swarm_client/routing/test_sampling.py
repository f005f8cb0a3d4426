"""Random routes for passes."""

from collections import Counter
from itertools import pairwise
from math import inf, sqrt
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_client.errors import NoRouteError
from swarm_client.routing import Candidate, sample_route, uncovered_blocks
from swarm_protocol.identifiers import BlockRange, PeerId

NUM_DRAWS = 1000


def server(name: str, blocks: str, **facts: object) -> Candidate:
    return Candidate(PeerId(name), BlockRange.parse(blocks), **facts)  # type: ignore[arg-type]


def first_peers(candidates: list[Candidate], blocks: str) -> Counter[str]:
    random, wanted = Random(0), BlockRange.parse(blocks)
    return Counter(sample_route(candidates, wanted, random)[0].peer for _ in range(NUM_DRAWS))


@st.composite
def spans(draw: st.DrawFn) -> BlockRange:
    start = draw(st.integers(0, 7))
    return BlockRange(start, draw(st.integers(start + 1, 8)))


@st.composite
def swarms(draw: st.DrawFn) -> list[Candidate]:
    return [
        Candidate(
            PeerId(f"s{index}"),
            draw(spans()),
            ping_s=draw(st.sampled_from([None, 0.1, inf])),
            is_avoided=draw(st.booleans()),
        )
        for index in range(draw(st.integers(0, 6)))
    ]


@given(candidates=swarms(), wanted=spans(), seed=st.integers())
def test_hops_cover_the_blocks_once_and_never_leave_their_spans(
    candidates: list[Candidate], wanted: BlockRange, seed: int
) -> None:
    """Each server is used to its end; an avoided one only where no other holds the next block."""
    gaps = uncovered_blocks((c.blocks for c in candidates), wanted)
    if gaps:
        with pytest.raises(NoRouteError) as refused:
            sample_route(candidates, wanted, Random(seed))
        assert refused.value.missing == gaps
        return

    route = sample_route(candidates, wanted, Random(seed))

    by_peer = {candidate.peer: candidate for candidate in candidates}
    assert (route[0].blocks.start, route[-1].blocks.end) == (wanted.start, wanted.end)
    assert all(before.blocks.end == after.blocks.start for before, after in pairwise(route))
    for hop in route:
        used = by_peer[hop.peer]
        assert used.blocks.covers(hop.blocks)
        assert hop.blocks.end == min(used.blocks.end, wanted.end)
        holders = [c for c in candidates if hop.blocks.start in c.blocks]
        assert not used.is_avoided or all(c.is_avoided for c in holders)


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 8), min_size=2, max_size=4))
def test_servers_are_drawn_in_proportion_to_the_length_of_their_spans(lengths: list[int]) -> None:
    """Conformance check 31. Within five standard deviations of the expected count."""
    candidates = [server(f"s{i}", f"0:{length}") for i, length in enumerate(lengths)]

    drawn = first_peers(candidates, "0:1")

    for candidate in candidates:
        share = len(candidate.blocks) / sum(lengths)
        deviation = sqrt(NUM_DRAWS * share * (1 - share))
        assert abs(drawn[candidate.peer] - NUM_DRAWS * share) <= 5 * deviation


def test_the_whole_span_counts_where_it_is_entered_in_the_middle() -> None:
    """Conformance check 31: not only what is left of it."""
    drawn = first_peers([server("long", "0:9"), server("short", "8:9")], "8:9")

    assert drawn["long"] == pytest.approx(0.9 * NUM_DRAWS, rel=0.1)


def test_a_server_out_of_reach_is_all_but_never_drawn() -> None:
    """Conformance check 31: its weight is 1e-6; alone, it still makes a route."""
    gone = server("gone", "0:8", ping_s=inf)

    assert first_peers([gone, server("here", "0:1")], "0:1") == {"here": NUM_DRAWS}
    assert first_peers([gone], "0:8") == {"gone": NUM_DRAWS}
