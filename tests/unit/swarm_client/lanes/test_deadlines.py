"""What happens unless something else happens first."""

import asyncio

from swarm_client.lanes.deadlines import Deadlines


async def test_what_is_not_dropped_is_called_in_time_and_once() -> None:
    """In the order in which the times end, whatever the order in which they were set."""
    deadlines, called = Deadlines(), asyncio.Queue[str]()
    loop = asyncio.get_running_loop()
    began_at = loop.time()

    deadlines.set("late", 0.04, called.put_nowait)
    deadlines.set("early", 0.01, called.put_nowait)

    assert [await called.get() for _ in range(2)] == ["early", "late"]
    assert loop.time() - began_at >= 0.04
    assert called.empty()


async def test_what_was_dropped_is_never_called() -> None:
    """Also when its time ends with another one's that drops it; dropping twice is no harm."""
    deadlines, called = Deadlines(), asyncio.Queue[str]()
    deadlines.set("first", 0.01, called.put_nowait)
    deadlines.drop("first")
    deadlines.drop("first")
    deadlines.set("dropping", 0.01, lambda _: deadlines.drop("second"))
    deadlines.set("second", 0.01, called.put_nowait)
    deadlines.set("last", 0.02, called.put_nowait)

    assert await called.get() == "last"
    assert called.empty()


async def test_what_is_set_while_another_is_called_is_called_too() -> None:
    """The timer is set again for the earliest of what waits."""
    deadlines, done = Deadlines(), asyncio.Event()

    deadlines.set("never", 5, lambda _: None)

    def set_another(awaited: str) -> None:
        deadlines.set(awaited, 0.01, lambda _: done.set())

    deadlines.set("again", 0.01, set_another)

    async with asyncio.timeout(2):
        await done.wait()
    deadlines.clear()


async def test_nothing_is_called_after_the_end() -> None:
    """A lane that has ended leaves no timer behind, and may begin again."""
    deadlines, called = Deadlines(), asyncio.Queue[str]()
    deadlines.set("dropped", 0.01, called.put_nowait)

    deadlines.clear()
    deadlines.set("kept", 0.02, called.put_nowait)

    assert await called.get() == "kept"


async def test_what_is_set_again_is_called_once_at_the_later_time() -> None:
    """Who waits for something is told once."""
    deadlines, called = Deadlines(), asyncio.Queue[str]()
    deadlines.set("again", 0.01, lambda _: called.put_nowait("first"))
    deadlines.set("again", 0.02, lambda _: called.put_nowait("second"))
    deadlines.set("last", 0.03, called.put_nowait)

    assert [await called.get() for _ in range(2)] == ["second", "last"]
