"""What is late is replaced by what was prepared meanwhile; whoever is first counts."""

import asyncio
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_client.session.lateness import LateWatch, Patience, patience
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import SwarmError

NEVER = Patience(60.0, 60.0)
AT_ONCE = Patience(0.0, 0.0)
DEFAULTS = RoutingSettings()


class Race:
    """A step and a preparation that end when they are told to.

    Attributes:
        was_prepared: the preparation began.
        is_there: what its server says to pings.
        num_pings: that it got.
        num_left: preparations that were cancelled.
        discarded: what was prepared in vain.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.step: asyncio.Future[str] = loop.create_future()
        self.preparation: asyncio.Future[str] = loop.create_future()
        self.was_prepared = asyncio.Event()
        self.is_there = True
        self.num_pings = 0
        self.num_left = 0
        self.discarded: list[str] = []

    async def ping(self, step: None) -> bool:
        self.num_pings += 1
        return self.is_there

    async def prepare(self, step: None) -> str:
        self.was_prepared.set()
        try:
            return await self.preparation
        except asyncio.CancelledError:
            self.num_left += 1
            raise

    def start(self, patience: Patience) -> asyncio.Task[str]:
        watch = LateWatch(lambda step: patience, self.ping, self.prepare, self.discarded.append)
        return asyncio.create_task(
            watch.first_of(self.step, None, asyncio.get_running_loop().time())
        )


async def test_a_step_in_time_is_all_there_is() -> None:
    """Nothing is prepared."""
    race = Race()
    running = race.start(NEVER)
    await asyncio.sleep(0)
    race.step.set_result("outputs")

    assert await running == "outputs"
    assert not race.was_prepared.is_set()


async def test_a_step_that_is_late_is_given_up_when_something_else_is_ready() -> None:
    """And the caller's task is as before: not cancelled."""
    race = Race()
    running = race.start(AT_ONCE)
    await race.was_prepared.wait()
    race.preparation.set_result("others")

    assert await running == "others"
    assert race.step.cancelled()
    assert running.cancelling() == 0


async def test_a_server_without_a_sign_of_life_is_replaced_at_the_first_doubt() -> None:
    """However long it might take were it there."""
    race = Race()
    race.is_there = False
    running = race.start(Patience(0.0, inf))
    race.preparation.set_result("others")

    assert await running == "others"


async def test_a_server_that_is_there_is_waited_for_and_asked_again() -> None:
    """It may fall silent later."""
    race = Race()
    running = race.start(Patience(0.0, inf))
    while race.num_pings < 2:  # noqa: ASYNC110  (the watch has its own clock)
        await asyncio.sleep(0.01)
    assert not race.was_prepared.is_set()

    race.is_there = False
    race.preparation.set_result("others")

    assert await running == "others"


async def test_a_late_reply_counts_if_it_comes_before_that() -> None:
    """What was being prepared is dropped."""
    race = Race()
    running = race.start(AT_ONCE)
    await race.was_prepared.wait()
    race.step.set_result("outputs")

    assert await running == "outputs"
    assert race.num_left == 1


async def test_both_at_once_make_one_of_them() -> None:
    """Nothing is lost, and nothing raised."""
    race = Race()
    running = race.start(AT_ONCE)
    await race.was_prepared.wait()
    race.step.set_result("outputs")
    race.preparation.set_result("others")

    assert await running in ("outputs", "others")
    assert running.cancelling() == 0


async def test_a_preparation_that_fails_leaves_the_step_alone() -> None:
    """There may be nobody else."""
    race = Race()
    running = race.start(AT_ONCE)
    await race.was_prepared.wait()
    race.preparation.set_exception(SwarmError("nobody else"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    race.step.set_result("outputs")

    assert await running == "outputs"


async def test_a_preparation_that_fails_is_tried_again() -> None:
    """The others may have been dead ones, and are known as such now."""
    race = Race()
    running = race.start(AT_ONCE)
    await race.was_prepared.wait()
    failed = race.preparation
    race.preparation = asyncio.get_running_loop().create_future()
    race.preparation.set_result("others")
    failed.set_exception(SwarmError("they are gone, too"))

    assert await running == "others"


async def test_errors_of_the_step_are_raised() -> None:
    """Also when it was late."""
    race = Race()
    running = race.start(AT_ONCE)
    await race.was_prepared.wait()
    race.step.set_exception(SwarmError("broken"))

    with pytest.raises(SwarmError, match="broken"):
        await running
    assert race.num_left == 1


@pytest.mark.parametrize("is_ready", [False, True])
async def test_a_caller_who_leaves_is_cancelled_and_leaves_nothing_behind(is_ready: bool) -> None:
    """Even in the moment in which something else is ready."""
    race = Race()
    running = race.start(AT_ONCE)
    await race.was_prepared.wait()
    if is_ready:
        race.preparation.set_result("others")
        while not race.step.cancelled():  # noqa: ASYNC110  (in this very turn of the loop)
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    assert race.num_left + len(race.discarded) == 1


@pytest.mark.parametrize("num_turns", range(6))
async def test_what_is_ready_is_used_or_discarded_whenever_the_caller_leaves(
    num_turns: int,
) -> None:
    """Between all turns of the loop from there on."""
    race = Race()
    running = race.start(AT_ONCE)
    await race.was_prepared.wait()
    race.preparation.set_result("others")
    for _ in range(num_turns):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    used = [] if running.cancelled() else [running.result()]
    assert [*used, *race.discarded] == ["others"] * (1 - race.num_left)


@pytest.mark.parametrize(
    ("slow_s", "expected_s", "may_queue", "expected"),
    [
        (0.1, None, False, (0.4, 1.3)),
        (0.1, 9.0, False, (0.4, 1.3)),
        (0.1, None, True, (0.4, 6.3)),
        (None, 0.1, False, (0.4, 1.3)),
        (0.3, None, False, (0.5, 2.9)),
        (None, 3.0, False, (3.0, 10)),
        (None, None, False, (0.3, 10)),
        (None, None, True, (0.3, 15)),
    ],
)
def test_patience_follows_what_is_usual(
    slow_s: float | None, expected_s: float | None, may_queue: bool, expected: tuple[float, float]
) -> None:
    """Here, or else elsewhere; with a stranger it has an end, and queueing comes on top."""
    found = patience(slow_s, expected_s, DEFAULTS, may_queue=may_queue)

    assert found == pytest.approx(expected)


@given(
    slow_s=st.none() | st.floats(0, 100),
    expected_s=st.none() | st.floats(0, 1.2),
    may_queue=st.booleans(),
)
def test_nobody_is_late_who_is_five_times_slower_than_usual(
    slow_s: float | None, expected_s: float | None, may_queue: bool
) -> None:
    """Busy machines are; and before anybody is late, they are asked whether they are there."""
    found = patience(slow_s, expected_s, DEFAULTS, may_queue=may_queue)
    usual_s = expected_s if slow_s is None else slow_s

    assert found.doubt_s <= found.late_s
    assert found.late_s > 5 * (usual_s or 0.0)


async def test_a_caller_who_leaves_just_before_others_are_ready_is_cancelled() -> None:
    """Both come in one turn of the loop, the caller first; it counts."""
    race = Race()
    running = race.start(AT_ONCE)
    await race.was_prepared.wait()
    race.preparation.set_result("prepared")  # the preparation goes on in the next turn

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert race.discarded == ["prepared"]
