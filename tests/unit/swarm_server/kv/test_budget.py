"""Admission to the KV memory."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_server.errors import KVMemoryError
from swarm_server.kv import KVBudget


def make_budget(num_slots: int = 10) -> KVBudget:
    return KVBudget(num_slots=num_slots, slot_bytes=8)


async def test_slots_come_back_once() -> None:
    """Giving back twice is the same as once."""
    budget = make_budget()
    await budget.reserve(3, wait_s=0)
    give_back = await budget.reserve(4, wait_s=0)

    give_back()
    give_back()

    assert budget.slots_left == 7


async def test_a_full_budget_refuses_at_once_in_petals_words() -> None:
    """Without waiting the text is the one stock clients know."""
    budget = make_budget()
    await budget.reserve(8, wait_s=0)

    with pytest.raises(
        KVMemoryError, match=r"Could not allocate 24 bytes immediately: out of memory"
    ):
        await budget.reserve(3, wait_s=0)


async def test_more_than_there_is_is_refused_without_waiting() -> None:
    """What can never be granted does not wait."""
    with pytest.raises(KVMemoryError, match=r"allocate 88 bytes, max cache size = 80 bytes"):
        await make_budget().reserve(11, wait_s=1000)


async def test_more_may_be_promised_than_there_is() -> None:
    """To several sessions, but to none more than all."""
    budget = KVBudget(num_slots=10, slot_bytes=8, overcommit=2.5)

    await budget.reserve(10, wait_s=0)
    await budget.reserve(10, wait_s=0)

    assert budget.slots_left == 5
    with pytest.raises(KVMemoryError, match=r"allocate 88 bytes, max cache size = 80 bytes"):
        await budget.reserve(11, wait_s=0)


async def test_waiting_ends_with_the_text_of_a_full_cache() -> None:
    """After the wait the text says so, and nothing is held."""
    budget = make_budget()
    await budget.reserve(10, wait_s=0)

    with pytest.raises(KVMemoryError, match=r"attention cache is full.* within 0\.01 seconds"):
        await budget.reserve(1, wait_s=0.01)

    budget.check_integrity()
    assert budget.slots_left == 0


async def test_who_waits_is_served_in_order() -> None:
    """A small request does not overtake a large one that came first."""
    budget, order = make_budget(), list[int]()
    give_back = await budget.reserve(8, wait_s=0)

    async def take(num_slots: int) -> None:
        await budget.reserve(num_slots, wait_s=10)
        order.append(num_slots)

    async with asyncio.TaskGroup() as group:
        group.create_task(take(6))
        await asyncio.sleep(0)
        group.create_task(take(2))
        await asyncio.sleep(0)
        with pytest.raises(KVMemoryError):
            await budget.reserve(1, wait_s=0)
        give_back()

    assert order == [6, 2]
    assert budget.slots_left == 2


async def test_who_gives_up_lets_the_next_one_in() -> None:
    """A cancelled wait at the head makes room for those behind it."""
    budget = make_budget()
    await budget.reserve(8, wait_s=0)
    large = asyncio.ensure_future(budget.reserve(6, wait_s=10))
    await asyncio.sleep(0)
    small = asyncio.ensure_future(budget.reserve(2, wait_s=10))
    await asyncio.sleep(0)

    large.cancel()
    await small

    assert budget.slots_left == 0


async def test_slots_granted_to_one_who_leaves_come_back() -> None:
    """Cancelled in the very moment of the grant, before it could run again."""
    budget = make_budget()
    give_back = await budget.reserve(10, wait_s=0)
    waiting = asyncio.ensure_future(budget.reserve(5, wait_s=10))
    await asyncio.sleep(0)

    give_back()
    waiting.cancel()
    await asyncio.wait({waiting})

    assert budget.slots_left == 10


async def test_a_grant_skips_one_who_has_left_but_not_run_yet() -> None:
    """Cancelled just before the slots come back."""
    budget = make_budget()
    give_back = await budget.reserve(10, wait_s=0)
    waiting = asyncio.ensure_future(budget.reserve(5, wait_s=10))
    await asyncio.sleep(0)

    waiting.cancel()
    give_back()
    await asyncio.wait({waiting})

    assert budget.slots_left == 10


@given(st.lists(st.one_of(st.integers(0, 12), st.none(), st.just("leave")), max_size=40))
def test_no_slot_is_lost_under_any_order_of_calls(operations: list[int | str | None]) -> None:
    """An int asks, None gives the oldest back, "leave" cancels the newest that still waits."""
    asyncio.run(_run(operations))


async def _run(operations: list[int | str | None]) -> None:
    budget = make_budget()
    tasks: list[asyncio.Task[Callable[[], None]]] = []
    held: list[Callable[[], None]] = []
    for operation in operations:
        if isinstance(operation, int):
            tasks.append(asyncio.create_task(budget.reserve(operation, wait_s=100)))
        elif operation is None and held:
            held.pop(0)()
        elif operation == "leave" and tasks:
            tasks.pop().cancel()
        await _settle(tasks, held)
        budget.check_integrity()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await _settle(tasks, held)
    for give_back in held:
        give_back()
    assert budget.slots_left == budget.num_slots


async def _settle(
    tasks: list[asyncio.Task[Callable[[], None]]], held: list[Callable[[], None]]
) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    for task in [task for task in tasks if task.done()]:
        tasks.remove(task)
        if not task.cancelled() and task.exception() is None:
            held.append(task.result())
