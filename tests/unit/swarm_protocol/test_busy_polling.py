"""An event loop that stays awake: while a device works, or for a while."""

import asyncio

from swarm_protocol.busy_polling import BusyPolling


class Clock:
    """Time that each reading moves on by a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


async def turns_until_asleep(clock: Clock) -> float:
    """Return what the clock says once the loop has nothing left to do at once."""
    loop, before = asyncio.get_running_loop(), -1.0
    while clock.now != before:
        before = clock.now
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned
    return clock.now


async def test_a_device_is_asked_each_time_the_loop_turns_until_it_has_ended() -> None:
    """Three questions, and no more once the answer was yes."""
    polling, answers = BusyPolling(Clock(), linger_s=0.0), [True, False, False]
    ended = asyncio.Event()

    def ask() -> None:
        if answers.pop():
            polling.stop_watching()
            ended.set()

    polling.watch(ask)
    await ended.wait()

    assert answers == []


async def test_the_loop_stays_awake_for_a_while_after_a_batch_and_no_longer() -> None:
    """Its clock is read at each turn, until the time has passed."""
    clock = Clock()
    polling = BusyPolling(clock, linger_s=10.0)
    polling.watch(polling.stop_watching)

    assert 10.0 < await turns_until_asleep(clock) <= 12.0


async def test_the_next_batch_may_begin_while_the_end_of_one_is_told() -> None:
    """Its device is asked, too."""
    polling, ended = BusyPolling(Clock(), linger_s=0.0), asyncio.Event()

    def end_second() -> None:
        polling.stop_watching()
        ended.set()

    def end_first() -> None:
        polling.stop_watching()
        polling.watch(end_second)

    polling.watch(end_first)

    await ended.wait()


async def test_the_loop_turns_until_the_time_is_over() -> None:
    """Once for each reading of the clock, though nobody is asked."""
    clock = Clock()
    polling = BusyPolling(clock, linger_s=5.0)

    polling.stay_awake()

    assert await turns_until_asleep(clock) == 1 + 5


async def test_further_calls_make_it_longer_and_not_busier() -> None:
    """As when many sessions decode."""
    clock = Clock()
    polling = BusyPolling(clock, linger_s=5.0)

    polling.stay_awake()
    polling.stay_awake()

    assert await turns_until_asleep(clock) == 2 + 5


async def test_who_has_fallen_asleep_can_be_woken_again() -> None:
    """With the next step."""
    clock = Clock()
    polling = BusyPolling(clock, linger_s=2.0)
    polling.stay_awake()
    first = await turns_until_asleep(clock)

    polling.stay_awake()

    assert await turns_until_asleep(clock) == 2 * first
