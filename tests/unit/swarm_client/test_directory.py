"""The live map: pings are smoothed, bans hold at once, offline servers disappear."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_client.directory import Directory
from swarm_client.errors import NoRouteError
from swarm_client.routing import Hop, choose_route, uncovered_blocks
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.node import FoundRecord
from tests.unit.swarm_client.scripted_server import FACTS

A, B = PeerId("a"), PeerId("b")


def directory_of(**spans: str) -> Directory:
    directory = Directory(FACTS, ban_s=15)
    directory.update(found(state=2, expires_at=100, **spans), now=0)
    return directory


def found(
    *, state: int = 2, expires_at: float = 100.0, **spans: str
) -> dict[str, dict[str, FoundRecord]]:
    result: dict[str, dict[str, FoundRecord]] = {}
    for peer, text in spans.items():
        blocks = BlockRange.parse(text)
        value = (state, 1.0, {"start_block": blocks.start, "end_block": blocks.end})
        for index in range(blocks.start, blocks.end):
            result.setdefault(f"test.{index}", {})[peer] = FoundRecord(value, expires_at)
    return result


def test_a_ban_holds_at_once_and_ends_by_itself() -> None:
    """A banned server is shown and may be a last resort, but counts as missing."""
    directory = directory_of(a="0:4")

    directory.ban(A, now=10)

    assert directory.views(now=24.9)[0].is_banned
    assert directory.candidates(now=24.9)[0].is_avoided
    assert directory.missing_blocks(now=24.9) == (BlockRange(0, 4),)
    assert directory.missing_blocks(now=25) == ()


def test_a_ban_outlives_a_lookup() -> None:
    """The record of a dead server stays in the DHT for a while."""
    directory = directory_of(a="0:4")
    directory.ban(A, now=10)

    directory.update(found(a="0:4"), now=20)

    assert directory.is_banned(A, now=20)


def test_a_server_that_says_it_leaves_is_left_and_avoided_for_a_while() -> None:
    """It may come back under the same name, sooner than anybody looks its records up."""
    directory = directory_of(a="0:4")

    directory.leave(A, now=10)

    assert directory.is_leaving(A, now=24.9)
    assert directory.candidates(now=24.9)[0].is_avoided
    directory.update(found(a="0:4"), now=25)
    assert not directory.is_leaving(A, now=25)
    assert not directory.candidates(now=25)[0].is_avoided


def test_a_server_whose_record_says_it_leaves_is_left_and_not_shown() -> None:
    """Servers of Petals say it in no other way."""
    directory = directory_of(a="0:4", b="0:4")

    directory.update(found(state=0, b="0:2") | found(a="2:4"), now=1)

    assert directory.is_leaving(B, now=1)
    assert not directory.is_leaving(A, now=1)
    assert directory.peers() == (A,)


def test_joining_servers_are_shown_but_not_routed() -> None:
    """They have no weights yet."""
    directory = Directory(FACTS, ban_s=15)
    directory.update(found(state=1, a="0:4"), now=0)

    assert [view.peer for view in directory.views(now=0)] == [A]
    assert directory.candidates(now=0) == []


def test_excluded_peers_are_no_candidates() -> None:
    """A search does not try a peer twice."""
    directory = directory_of(a="0:4", b="0:4")

    assert [c.peer for c in directory.candidates(now=0, excluded={A})] == [B]


def test_pings_are_smoothed_and_infinity_is_replaced() -> None:
    """A fifth of the new value; "no answer" and its end count at once."""
    directory = directory_of(a="0:4")

    seen = []
    for round_trip_s in (1.0, 2.0, inf, 3.0):
        directory.pings.record(A, round_trip_s)
        seen.append(directory.views(now=0)[0].ping_s)

    assert seen == [1.0, pytest.approx(1.2), inf, 3.0]


def test_the_least_recently_pinged_server_comes_first() -> None:
    """So a limited number of pings reaches every server in turn."""
    directory = directory_of(a="0:4", b="0:4", c="0:4")
    directory.pings.record(A, 0.1)
    directory.pings.record(B, 0.1)
    directory.pings.record(A, 0.1)

    assert directory.peers() == ("c", "b", "a")


def test_pings_of_servers_that_left_are_forgotten() -> None:
    """The map does not grow with the swarm's history."""
    directory = directory_of(a="0:4")
    directory.pings.record(A, 0.1)

    directory.update(found(b="0:4"), now=1)
    directory.update(found(a="0:4"), now=2)

    assert directory.views(now=2)[0].ping_s is None


def test_a_banned_peer_has_returned_when_it_announces_itself_anew() -> None:
    """Compared with the first look-up since its ban, which may hold an older announcement."""
    directory = directory_of(a="0:4")
    directory.ban(A, now=10)

    directory.update(found(expires_at=110, a="0:4"), now=11)
    assert not directory.has_returned(A, now=11)
    directory.update(found(expires_at=120, a="0:4"), now=12)

    assert directory.has_returned(A, now=12)
    assert directory.is_banned(A, now=12)


@pytest.mark.parametrize(
    ("is_silent", "answers", "expected"),
    [
        (True, [True], True),
        (True, [False], False),
        (False, [True], False),
        (False, [False, True], True),
        (False, [False, True, False], False),
    ],
)
def test_a_banned_peer_has_returned_when_it_was_silent_and_answers(
    is_silent: bool, answers: list[bool], expected: bool
) -> None:
    """One that answers all the time is out of order in another way."""
    directory = directory_of(a="0:4")
    directory.ban(A, now=10, is_silent=is_silent)
    directory.update(found(a="0:4"), now=11)

    for has_answered in answers:
        directory.pings.record(A, 0.1 if has_answered else inf)
        directory.note_pings(directory.banned_peers(now=11))

    assert directory.has_returned(A, now=12) == expected


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_peer_that_was_out_of_reach_is_as_good_as_others_once_it_is_heard_of(
    *, is_silent: bool
) -> None:
    """One that does something wrong says so as often as before."""
    directory = directory_of(a="0:4")
    directory.ban(A, now=10, is_silent=is_silent)

    directory.update(found(expires_at=110, a="0:4"), now=11)
    assert [candidate.is_avoided for candidate in directory.candidates(now=11)] == [True]
    directory.update(found(expires_at=120, a="0:4"), now=12)

    avoided = [candidate.is_avoided for candidate in directory.candidates(now=12)]
    assert avoided == [not is_silent]


def test_a_peer_that_was_out_of_reach_counts_so_when_its_ban_is_over() -> None:
    """Records outlive their servers, by much more than a ban; until it announces itself anew."""
    directory = directory_of(a="0:4", b="0:4")
    directory.pings.record(A, 0.0)
    directory.ban(A, now=10, is_silent=True)
    directory.update(found(a="0:4", b="0:4"), now=26)

    candidates = directory.candidates(now=26)
    assert not any(candidate.is_avoided for candidate in candidates)
    assert choose_route(candidates, BlockRange(0, 4), num_cache_tokens=0)[0].peer == B
    directory.update(found(expires_at=120, a="0:4", b="0:4"), now=27)

    assert directory.candidates(now=27)[0].ping_s is None


def test_a_peer_that_was_out_of_reach_is_used_before_the_dead_once_it_was_reached() -> None:
    """It may be there again before anybody has looked its record up; bans of the dead end."""
    directory = directory_of(a="0:4", b="0:4")
    directory.ban(A, now=1, is_silent=True)
    directory.ban(B, now=10, is_silent=True)

    directory.pings.record(B, 0.1)

    (hop,) = choose_route(directory.candidates(now=17), BlockRange(0, 4), num_cache_tokens=0)
    assert hop.peer == B


def test_a_banned_peer_has_returned_when_its_ban_is_over() -> None:
    """One that was never banned has nothing to return from."""
    directory = directory_of(a="0:4", b="0:4")
    directory.ban(A, now=10)

    directory.update(found(a="0:4", b="0:4"), now=26)

    assert directory.has_returned(A, now=26)
    assert not directory.has_returned(B, now=26)


def test_a_measured_rate_goes_before_the_announced_one() -> None:
    """Until the server is banned: it may come back as another program."""
    directory = directory_of(a="0:4")
    for _ in range(8):
        directory.latencies.of(Hop(A, BlockRange(0, 4))).record(1, took_s=1, server_s=0.5, now=0)

    assert directory.candidates(now=1)[0].rate_tokens_per_s == pytest.approx(8)
    directory.ban(A, now=1)
    assert directory.candidates(now=1)[0].rate_tokens_per_s is None


@st.composite
def servers(draw: st.DrawFn) -> dict[str, tuple[int, BlockRange, bool]]:
    """Return state, span and ban by peer."""

    def span() -> BlockRange:
        start = draw(st.integers(0, 3))
        return BlockRange(start, draw(st.integers(start + 1, 4)))

    names = [f"s{index}" for index in range(draw(st.integers(0, 6)))]
    return {name: (draw(st.integers(0, 2)), span(), draw(st.booleans())) for name in names}


@pytest.mark.parametrize(("num_tokens", "expected_s"), [(1, 0.2), (100, 4.0)])
def test_a_stranger_is_expected_to_take_what_it_promises(
    num_tokens: int, expected_s: float
) -> None:
    """Decoding or in a prefill; and its ping on top."""
    directory = directory_of()
    value = (
        2,
        1.0,
        {"start_block": 0, "end_block": 4, "inference_rps": 20.0, "forward_rps": 100.0},
    )
    directory.update({f"test.{index}": {"a": FoundRecord(value, 100.0)} for index in range(4)}, 0)
    directory.pings.record(A, 0.01)

    found_s = directory.expected_s(Hop(A, BlockRange(0, 4)), num_tokens, now=0)

    assert found_s == pytest.approx(expected_s + 0.01)


def test_a_stranger_is_expected_to_take_as_long_as_the_slowest_known_server() -> None:
    """It counts by blocks. Where nobody is known, nothing is expected."""
    directory = directory_of(a="0:4", b="0:2")
    stranger = Hop(B, BlockRange(0, 2))
    assert directory.expected_s(stranger, 1, now=0) is None

    for _ in range(8):
        directory.latencies.of(Hop(A, BlockRange(0, 4))).record(1, 0.4, now=0)

    assert directory.expected_s(stranger, 1, now=0) == pytest.approx(0.2)


@given(swarm=servers(), excluded=st.sets(st.sampled_from(["s0", "s1", "s2"])))
def test_no_route_has_servers_that_cannot_serve_or_banned_ones_if_there_are_others(
    swarm: dict[str, tuple[int, BlockRange, bool]], excluded: set[PeerId]
) -> None:
    """Neither offline nor joining nor excluded ones; and as many bans as must be, mostly none."""
    directory, wanted = Directory(FACTS, ban_s=15), BlockRange(0, 4)
    records: dict[str, dict[str, FoundRecord]] = {}
    for name, (state, blocks, is_banned) in swarm.items():
        for key, record in found(state=state, expires_at=100, **{name: str(blocks)}).items():
            records.setdefault(key, {}).update(record)
        if is_banned:
            directory.ban(PeerId(name), now=0)
    directory.update(records, now=1)
    online = {n: one for n, one in swarm.items() if one[0] == 2 and n not in excluded}
    trusted = [blocks for _, blocks, is_banned in online.values() if not is_banned]

    try:
        route = choose_route(directory.candidates(1, excluded), wanted, num_cache_tokens=1)
    except NoRouteError:
        assert uncovered_blocks((blocks for _, blocks, _ in online.values()), wanted)
        return

    assert {hop.peer for hop in route} <= online.keys()
    if not uncovered_blocks(trusted, wanted):
        assert not any(online[hop.peer][2] for hop in route)
