"""How long the event loop stays awake."""

import asyncio
from dataclasses import dataclass

from swarm_client.lanes.wakefulness import Wakefulness


@dataclass
class Clock:
    """Moves on by a second each time that it is read."""

    now: float = 0.0
    num_reads: int = 0

    def __call__(self) -> float:
        self.now += 1.0
        self.num_reads += 1
        return self.now


async def turn_until_asleep(clock: Clock) -> int:
    """Return how often the clock is read until a turn of the loop passes without that."""
    num_reads = -1
    while num_reads != clock.num_reads:
        num_reads = clock.num_reads
        await asyncio.sleep(0)
    return num_reads


async def test_the_loop_turns_until_the_time_is_over() -> None:
    """Once for each reading of the clock."""
    clock = Clock()
    wakefulness = Wakefulness(5.0, clock=clock)

    wakefulness.stay_awake()

    assert await turn_until_asleep(clock) == 1 + 5


async def test_further_calls_make_it_longer_and_not_busier() -> None:
    """As when many sessions decode."""
    clock = Clock()
    wakefulness = Wakefulness(5.0, clock=clock)

    wakefulness.stay_awake()
    wakefulness.stay_awake()

    assert await turn_until_asleep(clock) == 2 + 5


async def test_who_has_fallen_asleep_can_be_woken_again() -> None:
    """With the next step."""
    clock = Clock()
    wakefulness = Wakefulness(2.0, clock=clock)
    wakefulness.stay_awake()
    first = await turn_until_asleep(clock)

    wakefulness.stay_awake()

    assert await turn_until_asleep(clock) == 2 * first
