"""A slow server is left for one that promises much, several times in a row; then there is rest."""

from hypothesis import given
from hypothesis import strategies as st

from swarm_client.routing import Hop
from swarm_client.routing.slowness import SlowHops, SlowRule
from swarm_protocol.identifiers import BlockRange, PeerId

RULE = SlowRule(factor=3, margin_s=0.05, num_in_a_row=3, rest_s=30)
HOP = Hop(PeerId("a"), BlockRange(0, 4))
times = st.floats(0, 100)


@given(here_s=times, elsewhere_s=times)
def test_servers_are_never_too_slow_for_each_other(here_s: float, elsewhere_s: float) -> None:
    """Who moves would not move back: not by these numbers."""
    assert not (RULE.is_too_slow(here_s, elsewhere_s) and RULE.is_too_slow(elsewhere_s, here_s))


@given(here_s=times, elsewhere_s=times, more_s=st.floats(0, 10))
def test_a_slower_server_is_left_rather_than_a_faster_one(
    here_s: float, elsewhere_s: float, more_s: float
) -> None:
    """And rather for a faster than for a slower one."""
    if RULE.is_too_slow(here_s, elsewhere_s + more_s):
        assert RULE.is_too_slow(here_s + more_s, elsewhere_s)


observations = st.lists(
    st.tuples(st.none() | times, st.none() | times, st.floats(0.01, 20)), max_size=80
)


@given(observed=observations)
def test_a_hop_is_left_only_after_enough_verdicts_and_rest(
    observed: list[tuple[float | None, float | None, float]],
) -> None:
    """Never two moves of the same blocks within the rest, nor without three verdicts in a row."""
    slow, now, moves, in_a_row = SlowHops(RULE), 0.0, [-1e9], 0
    for here_s, elsewhere_s, pause_s in observed:
        now += pause_s
        is_known = here_s is not None and elsewhere_s is not None
        is_slow = is_known and RULE.is_too_slow(here_s or 0.0, elsewhere_s or 0.0)
        in_a_row = in_a_row + 1 if is_slow else 0
        if slow.is_to_be_left(HOP, here_s, elsewhere_s, now):
            assert in_a_row >= RULE.num_in_a_row
            assert now - moves[-1] >= RULE.rest_s
            moves.append(now)
            in_a_row = 0
            slow.left(HOP, now)


def test_rest_holds_for_all_hops_over_the_same_blocks() -> None:
    """Also for those that took over, and for parts of them; others may be left."""
    slow = SlowHops(SlowRule(num_in_a_row=1))
    slow.left(HOP, now=0)

    def is_left(blocks: str, now: float) -> bool:
        return slow.is_to_be_left(Hop(PeerId("b"), BlockRange.parse(blocks)), 9.0, 0.1, now)

    assert not is_left("3:5", now=29.9)
    assert is_left("4:5", now=1)
    assert is_left("3:5", now=30)
