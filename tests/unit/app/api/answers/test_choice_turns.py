"""Turns of the choices of one answer."""

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from app.api.answers.choice_turns import ChoiceTurns


class Slots:
    """Slots of a model; `num_free` may change at any time."""

    def __init__(self, num_free: int) -> None:
        self.num_free = num_free

    def take(self) -> Callable[[], None] | None:
        if not self.num_free:
            return None
        self.num_free -= 1
        return self.give_back

    def give_back(self) -> None:
        self.num_free += 1


@given(pauses=st.lists(st.integers(0, 5), min_size=1, max_size=12), num_free=st.integers(0, 6))
def test_all_choices_run_and_never_more_than_have_slots(pauses: list[int], num_free: int) -> None:
    """However long each of them takes; in the end all slots are given back."""

    async def run() -> None:
        slots, running, ended = Slots(num_free), set[int](), list[int]()
        turns = ChoiceTurns(slots.take)

        async def choose(index: int) -> None:
            async with turns.turn():
                running.add(index)
                assert len(running) <= min(4, 1 + num_free)
                for _ in range(pauses[index]):
                    await asyncio.sleep(0)
                running.remove(index)
                ended.append(index)

        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            for index in range(len(pauses)):
                group.create_task(choose(index))

        assert sorted(ended) == list(range(len(pauses)))
        assert slots.num_free == num_free

    asyncio.run(run())


async def test_a_spare_slot_is_given_back_between_choices() -> None:
    """Whoever waits by then has it, and the rest of the answer runs in its own."""
    slots, asked = Slots(1), list[int]()
    turns = ChoiceTurns(slots.take)
    first, second = turns.turn(), turns.turn()
    await first.__aenter__()
    await second.__aenter__()
    await second.__aexit__(None, None, None)
    slots.num_free -= 1  # somebody who has waited

    async def choose() -> None:
        async with turns.turn():
            asked.append(slots.num_free)

    third = asyncio.create_task(choose())
    await asyncio.sleep(0)
    assert not third.done()
    await first.__aexit__(None, None, None)
    await third

    assert asked == [0]


async def test_a_choice_that_is_cancelled_gives_its_turn_back() -> None:
    """Running or waiting."""
    turns = ChoiceTurns(lambda: None)
    begun = asyncio.Event()

    async def hold() -> None:
        async with turns.turn():
            begun.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(hold())
    await begun.wait()
    waiting = asyncio.create_task(hold())
    await asyncio.sleep(0)
    for task in (waiting, running):
        task.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)

    async with asyncio.timeout(1), turns.turn():
        pass
