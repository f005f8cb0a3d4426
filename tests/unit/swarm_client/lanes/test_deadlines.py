"""What happens unless something else happens first."""

import asyncio
from functools import partial

from swarm_client.lanes.deadlines import Deadlines


async def test_what_is_not_dropped_is_called_in_time_and_once() -> None:
    """In the order in which the times end, whatever the order in which they were set."""
    deadlines, called = Deadlines(), asyncio.Queue[str]()
    loop = asyncio.get_running_loop()
    began_at = loop.time()

    deadlines.set(0.04, partial(called.put_nowait, "late"))
    deadlines.set(0.01, partial(called.put_nowait, "early"))

    assert [await called.get() for _ in range(2)] == ["early", "late"]
    assert loop.time() - began_at >= 0.04
    assert called.empty()


async def test_what_was_dropped_is_never_called() -> None:
    """Also when its time ends with another one's that drops it; dropping twice is no harm."""
    deadlines, called = Deadlines(), asyncio.Queue[str]()
    key = deadlines.set(0.01, partial(called.put_nowait, "first"))
    deadlines.drop(key)
    deadlines.drop(key)
    keys: list[int] = []
    deadlines.set(0.01, lambda: deadlines.drop(keys[0]))
    keys.append(deadlines.set(0.01, partial(called.put_nowait, "second")))
    deadlines.set(0.02, partial(called.put_nowait, "last"))

    assert await called.get() == "last"
    assert called.empty()


async def test_what_is_set_while_another_is_called_is_called_too() -> None:
    """The timer is set again for the earliest of what waits."""
    deadlines, done = Deadlines(), asyncio.Event()

    deadlines.set(5, lambda: None)

    def set_another() -> None:
        deadlines.set(0.01, done.set)

    deadlines.set(0.01, set_another)

    async with asyncio.timeout(2):
        await done.wait()
    deadlines.clear()


async def test_nothing_is_called_after_the_end() -> None:
    """A lane that has ended leaves no timer behind, and may begin again."""
    deadlines, called = Deadlines(), asyncio.Queue[str]()
    deadlines.set(0.01, partial(called.put_nowait, "dropped"))

    deadlines.clear()
    deadlines.set(0.02, partial(called.put_nowait, "kept"))

    assert await called.get() == "kept"
