"""Who may train, how many at once, and for how long."""

import asyncio

import pytest

from swarm_server.errors import RequestExpiredError, ServerDrainingError, TooManyRequestsError
from swarm_server.handlers.training_admission import TrainingAdmission


async def hold(admission: TrainingAdmission, order: list[str], name: str) -> None:
    async with admission.admit():
        order.append(name)
        await asyncio.Event().wait()


async def started(
    admission: TrainingAdmission, order: list[str], *names: str
) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(hold(admission, order, name)) for name in names]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_requests_wait_for_their_turn() -> None:
    """First come, first served; one that leaves makes room."""
    admission, order = TrainingAdmission(max_running=1, timeout_s=10), list[str]()
    first, second = await started(admission, order, "first", "second")
    assert order == ["first"]

    first.cancel()
    await asyncio.wait({first})
    await asyncio.sleep(0)

    assert order == ["first", "second"]
    second.cancel()
    await admission.wait_idle()


async def test_the_waiting_line_is_bounded() -> None:
    """Eight wait for each that runs; one more is refused at once."""
    admission, order = TrainingAdmission(max_running=1, timeout_s=10), list[str]()
    tasks = await started(admission, order, *map(str, range(9)))

    with pytest.raises(TooManyRequestsError, match="maximum of 9 requests"):
        async with admission.admit():
            pass

    for task in tasks:
        task.cancel()
    await admission.wait_idle()


async def test_time_in_the_line_counts() -> None:
    """A request that takes too long is told so, wherever it is."""
    admission = TrainingAdmission(max_running=1, timeout_s=0.001)

    with pytest.raises(RequestExpiredError, match="longer than"):
        await hold(admission, [], "slow")

    await admission.wait_idle()


async def test_a_draining_server_lets_requests_end() -> None:
    """New ones are refused; `end_all` ends those that are left."""
    admission = TrainingAdmission(max_running=1, timeout_s=10)
    (task,) = await started(admission, [], "running")
    admission.start_draining()

    with pytest.raises(ServerDrainingError):
        await hold(admission, [], "new")
    assert not task.done()
    admission.end_all()

    with pytest.raises(ServerDrainingError):
        await task
    await admission.wait_idle()
