"""Who is next, whatever the others do."""

from itertools import combinations, count

from hypothesis import given
from hypothesis import strategies as st

from app.admission.fair_queue import FairQueue, Refusal, Ticket

FOREVER = float("inf")
weights = st.floats(0.1, 10)
costs = st.integers(1, 50)


def ticket(tenant: str, cost: float = 1, weight: float = 1, deadline: float = FOREVER) -> Ticket:
    """A ticket, most often a plain one."""
    return Ticket(tenant, cost, weight, deadline)


def queue_of(*tickets: Ticket) -> FairQueue:
    """A queue with room for all."""
    queue = FairQueue(max_waiting=10_000, max_per_tenant=10_000)
    for one in tickets:
        queue.add(one)
    return queue


def order(queue: FairQueue) -> str:
    """Take out everybody, and return the tenants."""
    return "".join(one.tenant for one in iter(lambda: queue.pop(0), None))


def test_tenants_take_turns_however_many_tickets_they_have() -> None:
    """The one with two tickets does not wait behind the one with six."""
    queue = queue_of(*(ticket("a") for _ in range(6)), *(ticket("b") for _ in range(2)))

    assert order(queue) == "ababaaaa"


def test_costly_tickets_take_more_of_a_share() -> None:
    """One ticket of 4 tokens is as much as four of 1."""
    queue = queue_of(*(ticket("a", 4) for _ in range(2)), *(ticket("b") for _ in range(8)))

    assert order(queue) == "abbbbabbbb"


def test_one_who_comes_back_is_neither_punished_nor_owed_anything() -> None:
    """After ten turns alone, the other one shares at once, and from now on only."""
    queue = queue_of(*(ticket("a") for _ in range(14)))
    for _ in range(10):
        queue.pop(0)

    for _ in range(4):
        queue.add(ticket("b"))

    assert order(queue) in ("babababa", "abababab")


def test_within_a_tenant_who_came_first_is_next() -> None:
    """Whatever the tickets cost."""
    first, second = ticket("a", 100), ticket("a", 1)
    queue = queue_of(first, second)

    assert [queue.pop(0), queue.pop(0)] == [first, second]


def test_ticket_past_its_deadline_is_never_next() -> None:
    """Nor is its tenant charged for it."""
    queue = queue_of(ticket("a", 50, deadline=5), ticket("a", deadline=6), ticket("b"))

    assert [one.tenant for one in (queue.pop(5), queue.pop(5)) if one] == ["a", "b"]
    assert len(queue) == 0


def test_cancelled_ticket_frees_its_place() -> None:
    """Cancelling twice is no error."""
    queue = FairQueue(max_waiting=2, max_per_tenant=2)
    one, two = ticket("a"), ticket("a")
    queue.add(one)
    queue.add(two)
    assert queue.refusal("b") is Refusal.QUEUE_FULL

    queue.cancel(one)
    queue.cancel(one)

    assert queue.refusal("b") is None
    assert queue.pop(0) is two


def test_full_queue_and_full_tenant_are_told_apart() -> None:
    """The others may still come."""
    queue = FairQueue(max_waiting=3, max_per_tenant=2)
    queue.add(ticket("a"))
    queue.add(ticket("a"))

    assert queue.refusal("a") is Refusal.TENANT_FULL
    assert queue.refusal("b") is None


@given(
    tenants=st.lists(
        st.tuples(weights, st.lists(costs, min_size=1, max_size=30)), min_size=1, max_size=6
    ),
    num_pops=st.integers(0, 100),
)
def test_shares_are_by_weight_while_all_are_waiting(
    tenants: list[tuple[float, list[int]]], num_pops: int
) -> None:
    """Served cost by weight differs between two tenants by one ticket of each at most."""
    tickets = [
        ticket(str(number), cost, weight)
        for number, (weight, line) in enumerate(tenants)
        for cost in line
    ]
    queue = queue_of(*tickets)
    served = [0.0] * len(tenants)
    left = [len(line) for _, line in tenants]
    for _ in range(num_pops):
        if not all(left):
            break
        out = queue.pop(0)
        assert out is not None
        served[int(out.tenant)] += out.cost / out.weight
        left[int(out.tenant)] -= 1

    largest = [max(line) / weight for weight, line in tenants]
    for one, two in combinations(range(len(tenants)), 2):
        assert abs(served[one] - served[two]) <= largest[one] + largest[two] + 1e-6


@given(flood=st.lists(costs, min_size=30, max_size=60), weight=weights)
def test_nobody_starves_behind_a_flood(flood: list[int], weight: float) -> None:
    """One ticket among many of another tenant waits for one of those at most, once it is there."""
    queue = queue_of(*(ticket("flood", cost, 10) for cost in flood[:20]))
    queue.pop(0)
    queue.add(ticket("one", 50, weight))
    for cost in flood[20:]:
        queue.add(ticket("flood", cost, 10))

    next_two = [one.tenant for one in (queue.pop(0), queue.pop(0)) if one is not None]

    assert "one" in next_two


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 4), costs, st.integers(0, 30)),
            st.tuples(st.just("pop"), st.integers(0, 5)),
            st.tuples(st.just("cancel"), st.integers(0, 20)),
        ),
        max_size=80,
    )
)
def test_every_ticket_comes_out_once_or_was_cancelled_or_late(
    steps: list[tuple[str, int] | tuple[str, int, int, int]],
) -> None:
    """Under any order of calls; nobody comes out late, and the count is right."""
    queue, numbers = queue_of(), count()
    waiting: dict[int, Ticket] = {}
    now = 0
    for step in steps:
        match step:
            case ("add", tenant, cost, deadline):
                added = ticket(str(tenant), cost, 1, deadline)
                waiting[next(numbers)] = added
                queue.add(added)
            case ("cancel", number):
                queue.cancel(waiting.pop(number, ticket("nobody")))
            case ("pop", pause):
                now += pause
                one = queue.pop(now)
                assert one is None or one.deadline > now
                out = [number for number, other in waiting.items() if other is one]
                assert len(out) == (one is not None)
                waiting = {k: v for k, v in waiting.items() if k not in out}
                assert one is not None or all(v.deadline <= now for v in waiting.values())
        queue.check_integrity()


def test_tenants_who_are_gone_are_forgotten() -> None:
    """Memory does not grow with everybody who ever came."""
    queue = queue_of()
    for number in range(5000):
        queue.add(ticket(str(number), cost=1 + number))
        queue.pop(0)

    queue.check_integrity()
