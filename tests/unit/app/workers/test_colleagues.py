"""What workers know of each other, on a board in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from app.state.board import LEASE_S, BoardView
from app.state.errors import StateUnavailableError
from app.state.memory_board import MemoryWorkerBoard
from app.workers.colleagues import Colleagues


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FlakyBoard(MemoryWorkerBoard):
    """A board that may be away."""

    is_away = False
    num_refused = 0

    async def look(self, worker_id: str) -> BoardView:
        self._check()
        return await super().look(worker_id)

    async def publish(self, term: int, findings: Mapping[str, bytes]) -> bool:
        self._check()
        return await super().publish(term, findings)

    def _check(self) -> None:
        if self.is_away:
            self.num_refused += 1
            raise StateUnavailableError("gone")


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_what_the_leader_finds_the_others_know_and_it_grows_old(clock: Clock) -> None:
    """Also while nobody looks."""
    board = MemoryWorkerBoard(clock)
    leader, other = Colleagues(board, clock=clock), Colleagues(board, clock=clock)
    await leader.look()
    await leader.publish("canary:demo", b"ok")
    clock.now += 2
    await other.look()
    clock.now += 1

    finding = other.finding("canary:demo")

    assert (leader.is_leading, other.is_leading) == (True, False)
    assert finding is not None
    assert (finding.value, finding.age_s) == (b"ok", 3.0)


async def test_a_leader_that_cannot_look_stops_leading_by_itself(clock: Clock) -> None:
    """Before the store may give the lease to somebody else; it publishes nothing then."""
    board = FlakyBoard(clock)
    leader = Colleagues(board, clock=clock)
    await leader.look()
    board.is_away = True
    await leader.publish("canary:demo", b"lost")
    with pytest.raises(StateUnavailableError):
        await leader.look()
    led_before = leader.is_leading

    clock.now += LEASE_S

    assert (led_before, leader.is_leading) == (True, False)
    board.is_away = False
    await leader.publish("canary:demo", b"late")
    assert (await board.look("other")).findings == {}


async def test_followers_publish_nothing(clock: Clock) -> None:
    """What they find is theirs."""
    board = MemoryWorkerBoard(clock)
    leader, other = Colleagues(board, clock=clock), Colleagues(board, clock=clock)
    await leader.look()
    await other.look()

    await other.publish("canary:demo", b"mine")

    await leader.look()
    assert leader.finding("canary:demo") is None


@asynccontextmanager
async def looking(board: MemoryWorkerBoard) -> AsyncIterator[Colleagues]:
    colleagues = Colleagues(board)
    async with colleagues.looking():
        yield colleagues


async def until(is_true: Callable[[], bool]) -> None:
    """Let the other tasks run until they have made it true."""
    async with asyncio.timeout(5):
        while not is_true():  # noqa: ASYNC110 - a board has no event to wait for
            await asyncio.sleep(0.001)


async def test_a_worker_that_stops_lets_another_lead(clock: Clock) -> None:
    """At once: nobody waits for its lease."""
    board = MemoryWorkerBoard(clock)
    async with looking(board) as leader:
        await until(lambda: leader.is_leading)
        heir = Colleagues(board, clock=clock)
        await heir.look()
        assert not heir.is_leading

    await heir.look()

    assert heir.is_leading


async def test_an_outage_ends_nothing(clock: Clock) -> None:
    """The offer stays as it was; the first look after it is as good as any."""
    board = FlakyBoard(clock)
    await board.change_offer("demo", b"gone")
    colleagues = Colleagues(board, clock=clock)
    await colleagues.look()
    board.is_away = True
    with pytest.raises(StateUnavailableError):
        await colleagues.look()
    assert colleagues.offer == {"demo": b"gone"}

    board.is_away = False
    await colleagues.look()

    assert colleagues.is_leading


async def test_an_outage_is_two_lines_in_the_log(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the board is looked at meanwhile."""
    monkeypatch.setattr("app.workers.colleagues._PERIOD_S", 0.001)
    board = FlakyBoard(clock)
    with capture_logs() as logged:
        async with looking(board) as colleagues:
            await until(lambda: colleagues.is_leading)
            board.is_away = True
            await until(lambda: board.num_refused > 2)
            board.is_away = False
            await colleagues.next_look()

    lines = [line["event"] for line in logged if line["event"].startswith("board_")]
    assert lines == ["board_unavailable", "board_available_again"]
