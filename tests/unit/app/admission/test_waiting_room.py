"""Slots of one model and those who wait for one."""

import asyncio

import pytest

from app.admission.waiting_room import WaitingRoom
from app.errors import QueueFullError, QueueTimeoutError, TooManyWaitingError
from app.settings import LimitSettings


def _room(**limits: float) -> WaitingRoom:
    return WaitingRoom(LimitSettings.model_validate({"max_generations": 1, **limits}))


async def _enter(room: WaitingRoom, tenant: str = "a") -> None:
    await room.enter(tenant, cost=1, weight=1)


async def _waiting(room: WaitingRoom, *tenants: str) -> list[asyncio.Task[None]]:
    """Start to wait, one after the other."""
    tasks = []
    for number, tenant in enumerate(tenants, room.num_waiting + 1):
        tasks.append(asyncio.create_task(_enter(room, tenant)))
        await asyncio.sleep(0)  # it runs until it waits
        assert room.num_waiting == number
    return tasks


async def test_slot_that_becomes_free_goes_to_who_is_next() -> None:
    """Nobody else gets in meanwhile."""
    room = _room()
    await _enter(room)
    one, two = await _waiting(room, "b", "c")

    room.leave()
    await one

    assert not two.done()
    room.leave()
    await two


async def test_slots_to_spare_are_those_that_nobody_waits_for() -> None:
    """One that is given back goes to who waits."""
    room = _room(max_generations=2)
    await _enter(room)

    assert room.enter_now()
    assert not room.enter_now()
    (one,) = await _waiting(room, "b")
    room.leave()
    await one
    assert not room.enter_now()


async def test_who_leaves_the_queue_frees_the_place() -> None:
    """The next one moves up."""
    room = _room(max_waiting=2)
    await _enter(room)
    one, two = await _waiting(room, "a", "b")

    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    room.leave()
    await two

    assert room.num_waiting == 0


async def test_slot_given_to_one_who_leaves_in_that_moment_is_not_lost() -> None:
    """It goes to the next one."""
    room = _room()
    await _enter(room)
    one, two = await _waiting(room, "b", "c")

    room.leave()
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)

    await two


async def test_full_queue_says_when_to_come_back() -> None:
    """Whoever waits goes on waiting."""
    room = _room(max_waiting=1)
    await _enter(room)
    await _waiting(room, "a")

    with pytest.raises(QueueFullError) as raised:
        await _enter(room, "b")

    assert raised.value.retry_after_s >= 1
    assert room.num_waiting == 1


async def test_one_key_cannot_fill_the_queue() -> None:
    """Others still find room."""
    room = _room(max_waiting=3, max_waiting_per_key=2)
    await _enter(room)
    await _waiting(room, "a", "a")

    with pytest.raises(TooManyWaitingError):
        await _enter(room, "a")

    await _waiting(room, "b")


async def test_wait_ends_at_the_deadline() -> None:
    """The place is free then."""
    room = _room(queue_timeout_s=0.01)
    await _enter(room)

    with pytest.raises(QueueTimeoutError):
        await _enter(room, "b")

    assert room.num_waiting == 0
    room.leave()
    await _enter(room)


async def test_without_a_queue_there_is_a_slot_or_none() -> None:
    """`max_waiting` of 0."""
    room = _room(max_waiting=0)
    await _enter(room)

    with pytest.raises(QueueFullError):
        await _enter(room)

    room.leave()
    await _enter(room)
