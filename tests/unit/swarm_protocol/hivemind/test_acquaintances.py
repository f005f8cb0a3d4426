"""When a node calls peers again that its DHT has lost sight of."""

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.hivemind.acquaintances import Acquaintances, Call
from swarm_protocol.identifiers import PeerId

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def acquaintances(*initial: PeerId) -> Acquaintances:
    return Acquaintances({peer: [f"/at/{peer}"] for peer in initial}, 0.0, Random(1))


def called(known: Acquaintances, now: float) -> list[PeerId]:
    return [call.peer for call in known.calls(now)]


def call_times(known: Acquaintances, until_s: int) -> list[int]:
    return [now for now in range(until_s) if called(known, now)]


def test_peers_in_sight_are_not_called() -> None:
    """The DHT calls them itself."""
    known = acquaintances(A)

    known.look([A, B], 1.0)

    assert called(known, 1000.0) == []


def test_a_lost_peer_is_called_where_it_was_reached_last() -> None:
    """After a moment; libp2p may have forgotten the address by then."""
    known = acquaintances()
    known.look([A, B], 1.0)
    known.learn({A: ["/at/1"], B: ["/at/2"], C: ["/at/3"]})

    known.look([B], 2.0)

    assert known.calls(2.5) == []
    assert known.calls(4.0) == [Call(A, ("/at/1",))]


def test_an_initial_peer_that_was_never_seen_is_called() -> None:
    """It may have been down when the node started."""
    known = acquaintances(A, B)

    known.look([A], 1.0)

    assert known.calls(10.0) == [Call(B, ("/at/b",))]


def test_pauses_double_up_to_a_minute_while_others_are_there() -> None:
    """A peer that has left for good costs little."""
    known = acquaintances(A)
    known.look([B], 0.0)

    times = call_times(known, 1000)

    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[0] <= 3
    assert 45 <= max(pauses) <= 73


def test_a_node_that_sees_nobody_calls_again_within_seconds() -> None:
    """Also when it called rarely before, with others around."""
    known = acquaintances(A)
    known.look([B], 0.0)
    call_times(known, 1000)

    known.look([], 1000.0)

    assert A in called(known, 1007.0)


def test_a_stranger_is_forgotten_after_an_hour_and_an_initial_peer_is_not() -> None:
    """Strangers come and go; who we were told about is how we find back."""
    known = acquaintances(A)
    known.look([A, B], 0.0)

    known.look([], 1.0)
    known.look([], 3700.0)

    assert called(known, 3710.0) == [A]


def test_the_latest_of_many_lost_strangers_are_kept() -> None:
    """They are the likeliest to come back."""
    known = acquaintances()
    strangers = [PeerId(str(number)) for number in range(100)]
    known.look(strangers, 0.0)

    known.look(strangers[50:], 1.0)
    known.look([], 2.0)

    kept = called(known, 10.0)
    assert set(kept) > set(strangers[50:])
    assert len(kept) == 64


def test_a_peer_that_comes_back_is_placed_anew() -> None:
    """It may have another address."""
    known = acquaintances()
    known.look([A], 0.0)
    known.learn({A: ["/at/1"]})
    known.look([], 1.0)

    known.look([A], 2.0)

    assert known.has_unplaced


@given(looks=st.lists(st.sets(st.sampled_from([A, B, C])), max_size=20))
def test_whoever_was_seen_and_is_out_of_sight_is_called_sooner_or_later(
    looks: list[set[PeerId]],
) -> None:
    """And nobody else."""
    known = acquaintances(A)
    for now, visible in enumerate(looks):
        known.look(visible, float(now))

    lost = set().union({A}, *looks) - (looks[-1] if looks else set())
    assert set(called(known, 200.0)) == lost
