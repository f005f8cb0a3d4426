"""A route in words."""

from math import inf

from swarm_client.routing import Candidate, choose_route, explain_route
from swarm_protocol.identifiers import BlockRange, PeerId

ALL = BlockRange(0, 4)


def explained(candidates: list[Candidate], num_cache_tokens: int = 1) -> list[str]:
    route = choose_route(candidates, ALL, num_cache_tokens=num_cache_tokens)
    text = explain_route(route, candidates, num_cache_tokens=num_cache_tokens)
    return text.splitlines()


def test_each_hop_has_a_line_with_its_times() -> None:
    """The first line has their sum, requests and the way back included."""
    candidates = [
        Candidate(PeerId("a"), BlockRange(0, 2), ping_s=0.02, rate_tokens_per_s=100),
        Candidate(PeerId("b"), BlockRange(1, 4), ping_s=0.04, rate_tokens_per_s=200),
    ]

    assert explained(candidates) == [
        "2 hops, about 126.0 ms a token",
        "blocks 0:2 by a; 20.0 ms to compute; 10.0 ms to get there; 0 other servers have these "
        "blocks",
        "blocks 2:4 by b; 10.0 ms to compute; 30.0 ms to get there; of its span 1:4; "
        "0 other servers have these blocks",
    ]


def test_what_speaks_against_a_server_is_said() -> None:
    """Guesses, pings without answer, memory, and a failure a moment ago."""
    candidates = [
        Candidate(PeerId("a"), BlockRange(0, 2), ping_s=inf, cache_tokens_left=10, is_avoided=True),
        Candidate(PeerId("b"), BlockRange(2, 4)),
        Candidate(PeerId("c"), BlockRange(1, 4), is_avoided=True),
    ]

    _, first, second = explained(candidates, num_cache_tokens=50)

    for text in ("did not answer", "short of KV memory", "failed a moment ago", "compute (a guess"):
        assert text in first
    assert "get there (a guess)" in second
    assert "1 other server has these blocks" in second
