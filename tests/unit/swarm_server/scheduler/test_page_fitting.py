"""Who gets pages, and who gives them."""

from swarm_server.scheduler import BatchLimits, Scheduler
from tests.unit.swarm_server.scheduler.paged_sessions import PagedSessions

LIMITS = BatchLimits(max_batch_tokens=64, chunk_tokens=64, max_rows=8)


def make_sessions(num_pages: int, lengths: dict[int, int]) -> PagedSessions:
    """Let sessions fill pages of 4 tokens."""
    paged = PagedSessions(Scheduler(LIMITS), num_pages)
    for session_id, length in lengths.items():
        paged.submit(session_id, length)
        paged.run_batch()
    return paged


def test_who_came_last_is_preempted() -> None:
    """For one who came before, and only as many as it takes."""
    paged = make_sessions(3, {1: 4, 2: 4, 3: 4})
    paged.submit(1, 1)

    plan = paged.run_batch()

    assert plan.preempted == [3]
    assert len(plan.tickets) == 1


def test_who_came_last_waits_for_the_others() -> None:
    """Nobody who came before gives pages back for it."""
    paged = make_sessions(3, {1: 4, 2: 4, 3: 4})
    paged.submit(3, 1)

    plan = paged.run_batch()

    assert (plan.preempted, plan.tickets, len(plan.blocked)) == ((), (), 1)


def test_who_rests_is_preempted_first() -> None:
    """Even if it came first."""
    paged = make_sessions(3, {1: 4, 2: 4, 3: 4})
    paged.sessions[1].is_resting = True
    paged.submit(2, 1)

    assert paged.run_batch().preempted == [1]


def test_nobody_is_preempted_in_vain() -> None:
    """When even that would not be enough, the others keep their pages."""
    paged = make_sessions(3, {1: 4, 2: 4, 3: 4})
    paged.submit(2, 8)

    plan = paged.run_batch()

    assert (plan.preempted, plan.tickets) == ((), ())


def test_a_preempted_ticket_leaves_the_batch() -> None:
    """It comes back, with all that must be computed anew."""
    paged = make_sessions(3, {1: 4, 2: 4, 3: 3})
    paged.submit(3, 1)
    paged.submit(1, 1)

    plan = paged.run_batch()

    assert plan.preempted == [3]
    assert [chosen.ticket_id for chosen in plan.tickets] == [5]
    paged.close(1)
    assert paged.sessions[3].length == 0
    paged.run_batch()
    assert paged.sessions[3].length == 4


def test_a_prefill_without_pages_lets_others_go_first() -> None:
    """Those of its tenant that need none are not held up."""
    paged = make_sessions(4, {1: 12, 2: 2})
    paged.submit(3, 4)
    paged.submit(2, 2)

    assert [len(paged.run_batch().tickets) for _ in range(2)] == [1, 0]
