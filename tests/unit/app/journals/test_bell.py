"""Who waits, and what wakes them."""

import asyncio

from app.journals.bell import Bell


async def test_all_who_wait_are_woken_by_the_next_ring() -> None:
    """And only by that: an earlier one is lost."""
    bell = Bell()
    bell.ring()
    waiting = [bell.wait(), bell.wait()]
    await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiting)

    bell.ring()

    await asyncio.gather(*waiting)


async def test_one_who_has_left_is_passed_over() -> None:
    """A cancelled wait does not keep the others from being woken."""
    bell = Bell()
    leaving, staying = bell.wait(), bell.wait()
    leaving.cancel()

    bell.ring()

    await staying
