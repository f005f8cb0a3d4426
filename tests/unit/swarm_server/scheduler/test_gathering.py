"""Sessions that decode at the same time go through a span in few groups; nobody waits long."""

from hypothesis import given
from hypothesis import strategies as st

from swarm_server.scheduler import Gathering

BATCH_S = 0.02


def gathering_of(num_sessions: int, *, away_s: float = 0.01) -> Gathering:
    """Return one whose sessions have all made some steps, and have just gone, at second 1."""
    gathering = Gathering()
    for turn in range(50):
        gathering.batch_finished(BATCH_S)
        for session_id in range(num_sessions):
            gathering.went({session_id: 1}, 1.0 - away_s * (50 - turn))
            gathering.came(session_id, 1.0 - away_s * (49 - turn))
    for session_id in range(num_sessions):
        gathering.went({session_id: 1}, 1.0)
    return gathering


def test_who_decodes_alone_never_waits() -> None:
    """There is nobody to wait for."""
    gathering = gathering_of(1)

    gathering.came(0, 1.01)

    assert gathering.begin_at(1, 1.01, 1.01) <= 1.01


def test_a_few_wait_for_the_others_a_batch_at_most() -> None:
    """Three of sixteen; the wait counts from when the first of them came."""
    gathering = gathering_of(16)
    for session_id in range(3):
        gathering.came(session_id, 1.01)

    begin_at = gathering.begin_at(3, 1.01, 1.01)

    assert 1.01 < begin_at <= 1.01 + BATCH_S + 1e-9
    assert gathering.begin_at(3, 1.01, 1.01 + BATCH_S) <= 1.01 + BATCH_S


def test_half_of_all_begin_at_once() -> None:
    """The other half is with another server, or with its client."""
    gathering = gathering_of(16)
    for session_id in range(8):
        gathering.came(session_id, 1.01)

    assert gathering.begin_at(8, 1.01, 1.01) <= 1.01


def test_sessions_that_ended_or_fell_silent_are_not_waited_for() -> None:
    """Their callers think about what to ask next, or have left."""
    gathering = gathering_of(16)
    for session_id in range(1, 8):
        gathering.left(session_id)

    assert gathering.begin_at(1, 1.0, 1.0) > 1.0
    assert gathering.begin_at(1, 9.0, 9.0) <= 9.0
    for session_id in range(8, 16):
        gathering.left(session_id)
    assert gathering.begin_at(1, 9.0, 9.0) <= 9.0


def test_sessions_that_all_come_at_once_are_parted() -> None:
    """If they are away for longer than a batch takes, another server wants work meanwhile."""
    gathering = gathering_of(16, away_s=0.03)
    for session_id in range(16):
        gathering.came(session_id, 1.03)

    assert gathering.rows_to_take(16, 1.03) == 8
    assert gathering.rows_to_take(3, 1.03) == 3


def test_a_group_is_left_whole_while_others_are_away() -> None:
    """It is one of two already."""
    gathering = gathering_of(16, away_s=0.03)
    for session_id in range(8):
        gathering.came(session_id, 1.03)

    assert gathering.rows_to_take(8, 1.03) == 8


def test_a_server_that_does_nearly_all_of_the_work_takes_all_at_once() -> None:
    """Two batches would take it longer than one."""
    gathering = gathering_of(16, away_s=0.01)
    for session_id in range(16):
        gathering.came(session_id, 1.01)

    assert gathering.rows_to_take(16, 1.01) == 16


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["came", "went", "left"]), st.integers(0, 5)), max_size=60
    ),
    num_ready=st.integers(1, 9),
)
def test_nobody_waits_longer_than_a_batch(steps: list[tuple[str, int]], num_ready: int) -> None:
    """Whatever sessions do."""
    gathering = Gathering()
    gathering.batch_finished(BATCH_S)
    for turn, (name, session_id) in enumerate(steps):
        now = turn * 0.005
        if name == "came":
            gathering.came(session_id, now)
        elif name == "went":
            gathering.went({session_id: 1}, now)
        else:
            gathering.left(session_id)
    now = len(steps) * 0.005

    assert gathering.begin_at(num_ready, now, now) - now <= BATCH_S
