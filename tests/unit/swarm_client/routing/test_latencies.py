"""How long steps took: per server and size, lately."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_client.routing import Hop
from swarm_client.routing.latencies import HopLatencies, Latencies
from swarm_protocol.identifiers import BlockRange, PeerId

HOP = Hop(PeerId("a"), BlockRange(0, 4))
seconds = st.floats(0.001, 10)


def latencies_of(*took_s: float, num_tokens: int = 1) -> HopLatencies:
    latencies = HopLatencies()
    for one in took_s:
        latencies.record(num_tokens, one, now=0)
    return latencies


@given(
    took_s=st.integers(1, 7).flatmap(lambda n: st.lists(seconds, min_size=8 * n, max_size=8 * n))
)
def test_the_usual_time_is_between_fast_and_slow_ones_of_late(took_s: list[float]) -> None:
    """Only the latest 32 count; a tenth of them may be slower than the slow time."""
    latencies = latencies_of(*took_s)
    lately = took_s[-32:]

    usual_s, slow_s = latencies.usual_s(1, now=1), latencies.slow_s(1, now=1)

    assert usual_s is not None
    assert slow_s is not None
    assert min(lately) <= usual_s <= slow_s <= max(lately)
    assert sum(one > slow_s for one in lately) <= len(lately) / 10


@pytest.mark.parametrize(("num_steps", "now"), [(7, 0.0), (8, 61.0)])
def test_few_steps_or_old_ones_say_nothing(num_steps: int, now: float) -> None:
    """Eight within a minute do."""
    latencies = latencies_of(*[0.1] * num_steps)

    assert latencies.usual_s(1, now) is None
    assert latencies.slow_s(1, now) is None
    assert latencies_of(*[0.1] * 8).usual_s(1, now=60) == 0.1


def test_sizes_are_told_apart() -> None:
    """A prefill is compared with prefills."""
    latencies = latencies_of(*[0.01] * 8)
    for _ in range(8):
        latencies.record(300, 2.0, now=0)

    assert latencies.usual_s(1, now=0) == 0.01
    assert latencies.usual_s(400, now=0) == 2.0
    assert latencies.usual_s(5, now=0) is None


@pytest.mark.parametrize(("num_tokens", "slow_s"), [(1, 0.4), (15, 0.4), (16, 0.8), (60, 1.6)])
def test_steps_of_an_unknown_size_are_bounded_by_others(num_tokens: int, slow_s: float) -> None:
    """Smaller ones take no longer, larger ones no longer than in proportion to their tokens."""
    latencies = latencies_of(*[0.4] * 8, num_tokens=8)

    assert latencies.slow_s(num_tokens, now=0) == pytest.approx(slow_s)


def test_the_slowest_server_says_what_to_expect_of_strangers() -> None:
    """For as many blocks, and steps of about this size."""
    latencies = Latencies()
    for peer, took_s in (("a", 0.04), ("b", 0.2)):
        for _ in range(8):
            hop = Hop(PeerId(peer), BlockRange(0, 4))
            latencies.of(hop).record(1, took_s, now=0)
    stranger = Hop(PeerId("c"), BlockRange(4, 6))

    assert latencies.elsewhere_s(stranger, 1, now=0) == pytest.approx(0.1)
    assert latencies.elsewhere_s(stranger, 4, now=0) == pytest.approx(0.4)
    assert latencies.elsewhere_s(stranger, 1, now=61) is None


def test_the_longest_step_counts_from_the_first_one_on() -> None:
    """Steps of about its size; of others it says nothing."""
    latencies = latencies_of(0.1, 0.3, 0.2)

    assert latencies.longest_s(1) == 0.3
    assert latencies.longest_s(2) is None


def test_a_rate_is_that_of_one_block_in_the_smallest_steps() -> None:
    """Waiting at the server counts, and the way there does not."""
    latencies = Latencies()
    for num_tokens, server_s in ((1, 0.04), (500, 8.0)):
        for _ in range(8):
            latencies.of(HOP).record(num_tokens, took_s=9, server_s=server_s, now=0)

    assert latencies.rate_tokens_per_s(HOP.peer, now=0) == pytest.approx(4 / 0.04)
    assert latencies.rate_tokens_per_s(HOP.peer, now=61) is None


def test_a_server_that_tells_no_times_has_no_measured_rate() -> None:
    """Those of the Petals dialect."""
    latencies = Latencies()
    for _ in range(8):
        latencies.of(HOP).record(1, 0.1, now=0)

    assert latencies.rate_tokens_per_s(HOP.peer, now=0) is None


def test_a_peer_can_be_forgotten() -> None:
    """It failed, and may come back as another program."""
    latencies = Latencies()
    before = latencies.of(HOP)

    latencies.forget(HOP.peer)

    assert latencies.of(HOP) is not before
