"""Two workers in front of one swarm: one makes the canary tokens, both offer the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from app.inference.canary import Canary
from app.inference.engine import EngineSettings, SwarmEngine
from app.state.board import BoardView
from app.state.errors import StateUnavailableError
from app.state.memory_board import MemoryWorkerBoard
from app.workers.canaries import SharedCanary
from app.workers.colleagues import Colleagues
from app.workers.offer import SharedOffer
from swarm_client.connection import SwarmConnection
from tests.integration.app.inference.swarm import Swarm, until

PERIOD_S = 10.0


class FlakyBoard(MemoryWorkerBoard):
    """A board that may be away."""

    is_away = False

    async def look(self, worker_id: str) -> BoardView:
        if self.is_away:
            raise StateUnavailableError("gone")
        return await super().look(worker_id)

    async def change_offer(self, name: str, change: bytes) -> None:
        if self.is_away:
            raise StateUnavailableError("gone")
        await super().change_offer(name, change)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class Prober:
    """A worker's canary, and how many tokens it has made."""

    colleagues: Colleagues
    canary: Canary
    shared: SharedCanary
    count: list[float]


def prober(swarm: Swarm, board: MemoryWorkerBoard, clock: Clock) -> Prober:
    model = swarm.engine.model(swarm.model_id)
    count: list[float] = []

    class CountingCanary(Canary):
        async def check(self) -> None:
            count.append(clock())
            await super().check()

    canary = CountingCanary(
        model.remote, model.replicas, period_s=PERIOD_S, max_age_s=30, clock=clock
    )
    colleagues = Colleagues(board, clock=clock)
    return Prober(
        colleagues, canary, SharedCanary(canary, "demo", colleagues, period_s=PERIOD_S), count
    )


async def test_only_the_leader_makes_canary_tokens(swarm: Swarm) -> None:
    """But for one of each worker at its start; its success keeps the others ready."""
    clock = Clock()
    board = MemoryWorkerBoard(clock)
    leader, other = prober(swarm, board, clock), prober(swarm, board, clock)

    for _ in range(10):
        for worker in (leader, other):
            await worker.colleagues.look()
            await worker.shared.turn()
        clock.now += 4

    assert len(leader.count) == 10
    assert len(other.count) == 1
    assert other.canary.state().ok


async def test_a_leader_that_finds_nothing_makes_the_others_try(swarm: Swarm) -> None:
    """Its way to the servers is not theirs."""
    clock = Clock()
    board = MemoryWorkerBoard(clock)
    leader, other = prober(swarm, board, clock), prober(swarm, board, clock)
    for worker in (leader, other):
        await worker.colleagues.look()
        await worker.shared.turn()
    for _ in range(6):
        clock.now += 4
        await leader.colleagues.look()
        await other.colleagues.look()
    assert len(other.count) == 1

    await other.shared.turn()

    assert len(other.count) == 2
    assert other.canary.state().ok


async def test_an_idle_leader_is_followed(swarm: Swarm) -> None:
    """The next one makes the tokens as soon as it leads."""
    clock = Clock()
    board = MemoryWorkerBoard(clock)
    leader, heir = prober(swarm, board, clock), prober(swarm, board, clock)
    for worker in (leader, heir):
        await worker.colleagues.look()
        await worker.shared.turn()

    clock.now += 6
    await heir.colleagues.look()
    await heir.shared.turn()

    assert heir.colleagues.is_leading
    assert len(heir.count) == 2


@dataclass(frozen=True, slots=True)
class Worker:
    """An engine that follows the offer."""

    colleagues: Colleagues
    engine: SwarmEngine
    offer: SharedOffer

    async def follow(self) -> None:
        """Look and follow, as a worker does every second."""
        await self.colleagues.look()
        await self.offer.follow()


@asynccontextmanager
async def worker(
    swarm: Swarm, board: MemoryWorkerBoard, model: Path, *, budget_bytes: int | None = None
) -> AsyncIterator[Worker]:
    async with AsyncExitStack() as parts:
        connection = SwarmConnection(swarm.network.node(f"gateway-{id(parts)}"))
        parts.push_async_callback(connection.close)
        settings = EngineSettings(
            models=(str(model),), dtype="float32", memory_budget_bytes=budget_bytes
        )
        engine = await SwarmEngine.start(connection, settings)
        parts.push_async_callback(engine.close)
        colleagues = Colleagues(board)
        yield Worker(colleagues, engine, SharedOffer(engine, colleagues, drain_s=0.1))


async def test_what_one_worker_offers_all_offer(
    swarm: Swarm, tiny_llama: Path, pairs_model: Path
) -> None:
    """And what one offers no more, none does; a worker that starts later, too."""
    board = MemoryWorkerBoard(monotonic)
    async with worker(swarm, board, tiny_llama) as one, worker(swarm, board, tiny_llama) as two:
        await one.offer.add(str(pairs_model))
        await two.follow()
        assert sorted(one.engine.models) == sorted(two.engine.models) == ["pairs", "tiny-llama"]

        await two.offer.remove("tiny-llama")
        await one.follow()
        async with worker(swarm, board, tiny_llama) as late:
            await late.follow()
            offers = [list(each.engine.models) for each in (one, two, late)]

    assert offers == [["pairs"]] * 3


async def test_a_model_that_went_comes_back_everywhere(swarm: Swarm, tiny_llama: Path) -> None:
    """As soon as nothing is left of it."""
    board = MemoryWorkerBoard(monotonic)
    async with worker(swarm, board, tiny_llama) as one, worker(swarm, board, tiny_llama) as two:
        await one.offer.remove("tiny-llama")
        await two.follow()
        await until(lambda: one.engine.memory.taken_bytes == two.engine.memory.taken_bytes == 0)

        await two.offer.add(str(tiny_llama))
        await one.follow()

        assert list(one.engine.models) == list(two.engine.models) == ["tiny-llama"]


async def test_without_the_store_nothing_changes(
    swarm: Swarm, tiny_llama: Path, pairs_model: Path
) -> None:
    """A change that the others cannot learn of is none."""
    board = FlakyBoard(monotonic)
    async with worker(swarm, board, tiny_llama) as one:
        board.is_away = True

        with pytest.raises(StateUnavailableError):
            await one.offer.add(str(pairs_model))
        with pytest.raises(StateUnavailableError):
            await one.offer.remove("tiny-llama")

        assert list(one.engine.models) == ["tiny-llama"]


async def test_a_worker_without_room_leaves_a_model_to_the_others(
    swarm: Swarm, tiny_llama: Path, pairs_model: Path
) -> None:
    """It says so in its log, and goes on with what it has."""
    board = MemoryWorkerBoard(monotonic)
    async with (
        worker(swarm, board, tiny_llama) as one,
        worker(swarm, board, tiny_llama, budget_bytes=200_000) as small,
    ):
        await one.offer.add(str(pairs_model))
        await small.follow()

        assert list(small.engine.models) == ["tiny-llama"]


async def test_following_ends_with_its_block(swarm: Swarm, tiny_llama: Path) -> None:
    """A removal under way included: nothing of it stays behind."""
    board = MemoryWorkerBoard(monotonic)
    async with worker(swarm, board, tiny_llama) as one:
        async with one.colleagues.looking(), one.offer.following():
            await board.change_offer("tiny-llama", b'{"source": null}')
            await until(lambda: not one.engine.models)

        assert not [task for task in asyncio.all_tasks() if "removal" in task.get_name()]
