"""What one direction of an emulated link does with packets."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.network.link import Link, LinkTerms


def make_link(terms: LinkTerms | None = None, seed: int = 0) -> Link:
    link = Link(Random(seed))
    link.terms = terms or LinkTerms()
    return link


def test_perfect_link_delivers_at_once() -> None:
    """No terms, no time."""
    link = make_link()

    link.send(b"one", 5.0)

    assert link.next_arrival == 5.0
    assert link.receive(5.0) == [b"one"]
    assert link.next_arrival is None


def test_packet_arrives_after_the_delay_and_not_before() -> None:
    """The delay is that of one direction."""
    link = make_link(LinkTerms(delay_s=0.025))

    link.send(b"one", 1.0)

    assert link.receive(1.024) == []
    assert link.receive(1.025) == [b"one"]


@given(
    gaps=st.lists(st.floats(0, 0.05), min_size=1, max_size=50),
    jitter_s=st.floats(0, 0.1),
    delays=st.lists(st.floats(0.1, 0.5), min_size=50, max_size=50),
)
def test_packets_never_overtake_each_other_nor_get_lost_without_loss(
    gaps: list[float], jitter_s: float, delays: list[float]
) -> None:
    """Whatever the jitter, and when delays change under way."""
    link, now = make_link(), 0.0
    sent = [bytes([number]) for number in range(len(gaps))]
    arrived: list[bytes] = []

    for packet, gap, delay_s in zip(sent, gaps, delays, strict=False):
        now += gap
        link.terms = LinkTerms(delay_s=delay_s, jitter_s=jitter_s)
        link.send(packet, now)
        arrived += link.receive(now)
    arrived += link.receive(now + 1.0)

    assert arrived == sent


def test_jitter_spreads_arrivals_around_the_delay() -> None:
    """As often early as late, and by no more than asked."""
    link = make_link(LinkTerms(delay_s=0.1, jitter_s=0.02))
    took: list[float] = []
    for now in range(500):
        link.send(b"one", float(now))
        assert link.next_arrival is not None
        took.append(link.next_arrival - now)
        link.receive(now + 0.5)

    assert 0.08 <= min(took) < 0.085
    assert 0.115 < max(took) <= 0.12
    assert sum(took) / len(took) == pytest.approx(0.1, abs=0.002)


def test_so_many_packets_get_lost_as_were_asked_for() -> None:
    """2000 tries at 10 %: three standard deviations are 40."""
    link = make_link(LinkTerms(loss=0.1))
    for _ in range(2000):
        link.send(b"one", 0.0)

    assert len(link.receive(0.0)) == pytest.approx(1800, abs=40)


def test_same_seed_loses_the_same_packets() -> None:
    """A run can be repeated."""
    links = [make_link(LinkTerms(loss=0.5), seed=7) for _ in range(2)]
    for link in links:
        for number in range(100):
            link.send(bytes([number]), 0.0)

    assert links[0].receive(0.0) == links[1].receive(0.0)


def test_rate_spaces_packets_and_idle_time_is_not_saved_up() -> None:
    """1000 bytes at 10,000 bytes a second take 0.1 s each, then the delay."""
    link = make_link(LinkTerms(delay_s=1.0, rate_bytes_per_s=10_000))

    link.send(bytes(1000), 0.0)
    link.send(bytes(1000), 0.0)

    assert len(link.receive(1.11)) == 1
    assert len(link.receive(1.21)) == 1
    link.send(bytes(1000), 50.0)
    assert link.next_arrival == pytest.approx(51.1)


def test_sender_who_is_much_too_fast_loses_packets() -> None:
    """The buffer before a slow link holds 0.2 s, which is 12.8 of these packets."""
    link = make_link(LinkTerms(rate_bytes_per_s=64 * 1024))
    for _ in range(100):
        link.send(bytes(1024), 0.0)

    assert len(link.receive(10.0)) == 13


def test_cut_link_accepts_nothing_and_delivers_what_is_under_way() -> None:
    """The cut is at the sender's end."""
    link = make_link(LinkTerms(delay_s=0.1))
    link.send(b"before", 0.0)
    link.terms = LinkTerms(delay_s=0.1, is_cut=True)
    link.send(b"meanwhile", 0.01)
    link.terms = LinkTerms(delay_s=0.1)
    link.send(b"after", 0.02)

    assert link.receive(1.0) == [b"before", b"after"]


@pytest.mark.parametrize(
    "terms",
    [{"delay_s": -1.0}, {"jitter_s": 0.1}, {"loss": 1.1}, {"loss": -0.1}, {"rate_bytes_per_s": 0}],
)
def test_impossible_terms_are_refused(terms: dict[str, float]) -> None:
    """Jitter beyond the delay would be an arrival before the departure."""
    with pytest.raises(ValueError, match=r"got -?\d"):
        LinkTerms(**terms)  # type: ignore[arg-type]  # a bool is not among these
