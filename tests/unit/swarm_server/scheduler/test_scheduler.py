"""What goes into a batch."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.identifiers import BlockRange
from swarm_server.scheduler import BatchLimits, Scheduler
from tests.unit.swarm_server.scheduler.paged_sessions import (
    EndlessPages,
    PagedSessions,
    run_batch,
    ticket,
)

LIMITS = BatchLimits(max_batch_tokens=64, chunk_tokens=16, max_rows=8)


def make_scheduler(limits: BatchLimits = LIMITS) -> Scheduler:
    return Scheduler(limits)


def test_every_ready_decode_goes_into_the_batch() -> None:
    """Of one block range; sessions join and leave between batches."""
    scheduler = make_scheduler()
    for number in range(3):
        scheduler.add(ticket(number))
    assert set(run_batch(scheduler)) == {0, 1, 2}

    scheduler.add(ticket(3, session_id=1))
    scheduler.add(ticket(4))

    assert set(run_batch(scheduler)) == {3, 4}
    assert not scheduler.has_work


def test_a_decode_is_lone_while_nothing_else_waits_or_runs() -> None:
    """Taking it needs no plan; it is finished like all others."""
    scheduler = make_scheduler()
    scheduler.add(ticket(0))
    lone = scheduler.lone_decode()
    assert lone is not None

    scheduler.take_whole(lone)

    assert (lone.num_taken, scheduler.lone_decode()) == (1, None)
    scheduler.finished(lone)
    scheduler.check_integrity()
    assert not scheduler.has_work


def test_neither_a_prompt_nor_one_decode_of_several_is_lone() -> None:
    """Those need a plan."""
    scheduler = make_scheduler()
    scheduler.add(ticket(0, 5))
    assert scheduler.lone_decode() is None
    run_batch(scheduler)

    scheduler.add(ticket(1))
    scheduler.add(ticket(2))

    assert scheduler.lone_decode() is None


def test_decodes_over_the_maximum_of_rows_go_first_next_time() -> None:
    """By age, so that everyone has a turn."""
    scheduler = make_scheduler()
    for number in range(10):
        scheduler.add(ticket(number))
    first = run_batch(scheduler)
    for number in range(10, 18):
        scheduler.add(ticket(number, session_id=number - 10))

    second = run_batch(scheduler)

    assert set(first) == set(range(8))
    assert set(second) == {8, 9, *range(10, 16)}


def test_a_batch_may_be_told_to_leave_decodes_to_the_next() -> None:
    """The oldest go first; prefills are not meant."""
    scheduler = make_scheduler()
    for number in range(3):
        scheduler.add(ticket(number))
    scheduler.add(ticket(3, 5))

    plan = scheduler.next_batch(EndlessPages(), max_rows=2)

    assert [chosen.ticket_id for chosen in plan.tickets] == [0, 1, 3]


def test_a_decode_of_many_rows_runs_alone() -> None:
    """More rows than a batch has are better late than never."""
    scheduler = make_scheduler()
    scheduler.add(ticket(0, num_rows=20))
    scheduler.add(ticket(1))

    assert [set(run_batch(scheduler)) for _ in range(2)] == [{0}, {1}]


def test_decodes_wait_for_no_more_than_one_chunk() -> None:
    """However long the prefill is, and however many there are."""
    scheduler = make_scheduler()
    scheduler.add(ticket(0, 100))
    scheduler.add(ticket(1, 100, tenant="two"))
    scheduler.add(ticket(2))

    batch = run_batch(scheduler)

    assert batch[2] == 1
    assert batch[0] + batch[1] == 16


def test_a_lone_prefill_takes_the_whole_budget() -> None:
    """Nobody waits for it."""
    scheduler = make_scheduler()
    scheduler.add(ticket(0, 100))

    assert [run_batch(scheduler) for _ in range(2)] == [{0: 64}, {0: 36}]


def test_a_prefill_beside_chats_is_not_alone() -> None:
    """A session that decoded last will be back in a moment."""
    scheduler = make_scheduler()
    scheduler.add(ticket(0))
    run_batch(scheduler)
    scheduler.add(ticket(1, 100))

    assert run_batch(scheduler) == {1: 16}
    scheduler.cancel(0)
    assert run_batch(scheduler) == {1: 64}


def test_a_chunk_counts_all_rows() -> None:
    """And has at least one token of each."""
    scheduler = make_scheduler()
    scheduler.add(ticket(9))
    scheduler.add(ticket(10, 3, num_rows=5))
    scheduler.add(ticket(11, 2, num_rows=20))

    batches = [run_batch(scheduler) for _ in range(3)]

    assert batches == [{9: 1, 10: 3}, {11: 1}, {11: 1}]


def test_block_ranges_take_turns() -> None:
    """A batch goes through one of them."""
    scheduler = make_scheduler()
    scheduler.add(ticket(0))
    scheduler.add(ticket(1, blocks=BlockRange(2, 4)))
    scheduler.add(ticket(2))
    first = run_batch(scheduler)
    scheduler.add(ticket(3, session_id=0))

    assert [set(batch) for batch in (first, run_batch(scheduler), run_batch(scheduler))] == [
        {0, 2},
        {1},
        {3},
    ]


def test_within_a_tenant_the_oldest_goes_first() -> None:
    """A chunk may hold the end of one and the beginning of the next."""
    scheduler = make_scheduler()
    scheduler.add(ticket(0, 21))
    scheduler.add(ticket(1, 21))

    batches = [run_batch(scheduler) for _ in range(2)]

    assert batches == [{0: 16}, {0: 5, 1: 11}]


def test_a_prompt_is_not_cut_for_the_sake_of_its_end() -> None:
    """A queue of prompts that are a little longer than a chunk loses a chunk to each otherwise."""
    scheduler = make_scheduler()
    for number in range(3):
        scheduler.add(ticket(number, 20))

    assert [run_batch(scheduler) for _ in range(3)] == [{0: 20}, {1: 20}, {2: 20}]


def test_the_end_of_a_prompt_fits_into_the_batch() -> None:
    """What decodes leave free is the limit, too."""
    scheduler = Scheduler(BatchLimits(max_batch_tokens=18, chunk_tokens=16, max_rows=8))
    scheduler.add(ticket(0, 18))
    scheduler.add(ticket(1, 1))

    assert run_batch(scheduler) == {0: 16, 1: 1}


def test_a_cancelled_ticket_is_gone() -> None:
    """And its session may come again."""
    scheduler = make_scheduler()
    scheduler.add(ticket(0, 100))
    scheduler.cancel(0)

    assert not scheduler.has_work
    scheduler.add(ticket(1, session_id=0))
    assert run_batch(scheduler) == {1: 1}


TICKETS = st.lists(
    st.tuples(
        st.integers(1, 40),  # tokens
        st.sampled_from(["one", "two", "three"]),
        st.sampled_from([BlockRange(0, 4), BlockRange(0, 2)]),
        st.sampled_from([1, 1, 3, 20]),  # rows
        st.integers(0, 3),  # batches to run before it comes
    ),
    max_size=20,
)


@given(TICKETS)
def test_every_token_of_every_ticket_is_computed_once(
    arrivals: list[tuple[int, str, BlockRange, int, int]],
) -> None:
    """Within as many batches as there are tokens: nothing starves, nothing is lost."""
    scheduler, done, num_batches = make_scheduler(), Counter[int](), 0
    for number, (num_tokens, tenant, blocks, num_rows, num_before) in enumerate(arrivals):
        for _ in range(num_before):
            done.update(run_batch(scheduler))
        scheduler.add(ticket(number, num_tokens, tenant=tenant, blocks=blocks, num_rows=num_rows))
        scheduler.check_integrity()
    while scheduler.has_work:
        done.update(run_batch(scheduler))
        num_batches += 1

    assert done == Counter({number: arrival[0] for number, arrival in enumerate(arrivals)})
    assert num_batches <= sum(num_tokens for num_tokens, *_ in arrivals)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=6), st.integers(1, 3))
def test_prefill_never_exceeds_a_chunk_beside_decodes(sizes: list[int], num_chats: int) -> None:
    """Of all prefills together, in every batch, but for the end of a prompt."""
    scheduler, next_ticket, num_left = make_scheduler(), 1000, sum(sizes)
    for number, size in enumerate(sizes):
        scheduler.add(ticket(number, size, tenant=str(number % 2)))
    while num_left > 0:
        for chat in range(num_chats):
            scheduler.add(ticket(next_ticket, session_id=100 + chat))
            next_ticket += 1
        batch = run_batch(scheduler)

        num_prefilled = sum(taken for number, taken in batch.items() if number < 1000)
        assert min(16, num_left) <= num_prefilled <= 20
        assert len([number for number in batch if number >= 1000]) == num_chats
        num_left -= num_prefilled


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 8), min_size=2),
    st.integers(4, 30),
)
def test_tenants_get_equal_shares(num_sessions: dict[str, int], num_batches: int) -> None:
    """While all have work they differ by less than a chunk, however many sessions each has."""
    scheduler, number, tenants = make_scheduler(), 0, dict[int, str]()
    for tenant, count in num_sessions.items():
        for _ in range(count):
            scheduler.add(ticket(number, 1000, tenant=tenant))
            tenants[number] = tenant
            number += 1
    served = Counter(dict.fromkeys(num_sessions, 0))
    for _ in range(num_batches):
        for ticket_id, taken in run_batch(scheduler).items():
            served[tenants[ticket_id]] += taken

    assert max(served.values()) - min(served.values()) <= LIMITS.chunk_tokens


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(1, 9), st.sampled_from(["step", "rest", "end"])),
        max_size=40,
    )
)
def test_preemption_ends(calls: list[tuple[int, int, str]]) -> None:
    """Sessions that fit alone all finish their steps, whoever has preempted whom."""
    paged = PagedSessions(make_scheduler(), num_pages=8)
    for session_id, number, call in calls:
        session = paged.sessions.get(session_id)
        if call == "step" and (session is None or session.num_wanted == 0):
            position = 0 if session is None else session.position
            if position + number <= 32:
                paged.submit(session_id, number)
        elif call == "rest" and session is not None and session.num_wanted == 0:
            session.is_resting = True
        elif call == "end":
            paged.close(session_id)
        paged.run_batch()

    for _ in range(200):
        if not paged.scheduler.has_work:
            break
        if not paged.run_batch().tickets:  # the first ones hold everything until they end
            paged.close(min(s for s, session in paged.sessions.items() if session.length > 0))
    assert not paged.scheduler.has_work
    assert all(session.num_wanted == 0 for session in paged.sessions.values())
