"""What is late is replaced by what was prepared meanwhile; whoever is first counts."""

import asyncio

import pytest

from swarm_client.session.lateness import LateWatch
from swarm_protocol.errors import SwarmError

NEVER_S = 60.0
AT_ONCE_S = 0.0


class Race:
    """A step and a preparation that end when they are told to.

    Attributes:
        was_prepared: the preparation began.
        num_left: preparations that were cancelled.
        discarded: what was prepared in vain.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.step: asyncio.Future[str] = loop.create_future()
        self.preparation: asyncio.Future[str] = loop.create_future()
        self.was_prepared = asyncio.Event()
        self.num_left = 0
        self.discarded: list[str] = []

    async def prepare(self, step: None) -> str:
        self.was_prepared.set()
        try:
            return await self.preparation
        except asyncio.CancelledError:
            self.num_left += 1
            raise

    def start(self, patience_s: float) -> asyncio.Task[str]:
        watch = LateWatch(lambda step: patience_s, self.prepare, self.discarded.append)
        return asyncio.create_task(
            watch.first_of(self.step, None, asyncio.get_running_loop().time())
        )


async def test_a_step_in_time_is_all_there_is() -> None:
    """Nothing is prepared."""
    race = Race()
    running = race.start(NEVER_S)
    await asyncio.sleep(0)
    race.step.set_result("outputs")

    assert await running == "outputs"
    assert not race.was_prepared.is_set()


async def test_a_step_that_is_late_is_given_up_when_something_else_is_ready() -> None:
    """And the caller's task is as before: not cancelled."""
    race = Race()
    running = race.start(AT_ONCE_S)
    await race.was_prepared.wait()
    race.preparation.set_result("others")

    assert await running == "others"
    assert race.step.cancelled()
    assert running.cancelling() == 0


async def test_a_late_reply_counts_if_it_comes_before_that() -> None:
    """What was being prepared is dropped."""
    race = Race()
    running = race.start(AT_ONCE_S)
    await race.was_prepared.wait()
    race.step.set_result("outputs")

    assert await running == "outputs"
    assert race.num_left == 1


async def test_both_at_once_make_one_of_them() -> None:
    """Nothing is lost, and nothing raised."""
    race = Race()
    running = race.start(AT_ONCE_S)
    await race.was_prepared.wait()
    race.step.set_result("outputs")
    race.preparation.set_result("others")

    assert await running in ("outputs", "others")
    assert running.cancelling() == 0


async def test_a_preparation_that_fails_leaves_the_step_alone() -> None:
    """There may be nobody else."""
    race = Race()
    running = race.start(AT_ONCE_S)
    await race.was_prepared.wait()
    race.preparation.set_exception(SwarmError("nobody else"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    race.step.set_result("outputs")

    assert await running == "outputs"


async def test_errors_of_the_step_are_raised() -> None:
    """Also when it was late."""
    race = Race()
    running = race.start(AT_ONCE_S)
    await race.was_prepared.wait()
    race.step.set_exception(SwarmError("broken"))

    with pytest.raises(SwarmError, match="broken"):
        await running
    assert race.num_left == 1


@pytest.mark.parametrize("is_ready", [False, True])
async def test_a_caller_who_leaves_is_cancelled_and_leaves_nothing_behind(is_ready: bool) -> None:
    """Even in the moment in which something else is ready."""
    race = Race()
    running = race.start(AT_ONCE_S)
    await race.was_prepared.wait()
    if is_ready:
        race.preparation.set_result("others")
        while not race.step.cancelled():  # noqa: ASYNC110  (in this very turn of the loop)
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    assert race.num_left + len(race.discarded) == 1
