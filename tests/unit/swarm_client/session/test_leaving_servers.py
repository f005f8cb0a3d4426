"""Sessions whose servers are about to stop move away beside their steps."""

import asyncio
from collections.abc import Collection
from dataclasses import replace

import pytest
import torch

from swarm_client.session import HopLost, HopRestored, InferenceSession, SessionEvent
from swarm_client.session.route_search import RouteSearch
from swarm_client.settings import RoutingSettings
from swarm_protocol.identifiers import BlockRange
from tests.unit.swarm_client.scripted_server import FACTS
from tests.unit.swarm_client.session.remembering_swarm import RememberingSwarm

BLOCKS = BlockRange(0, 5)
HIDDEN_SIZE = 2
SETTINGS = RoutingSettings(slow_look_s=0)


async def run_steps(
    leaving: Collection[str], splits: tuple[str, ...] = ("0:5", "0:5"), *, num_steps: int = 10
) -> tuple[list[SessionEvent], list[str]]:
    """Return what a session tells, and the servers that it uses in the end."""
    swarm = RememberingSwarm(splits, leaving=leaving)
    events: list[SessionEvent] = []
    search = RouteSearch(swarm, max_length=100, on_event=events.append)
    facts = replace(FACTS, num_blocks=len(BLOCKS), hidden_size=HIDDEN_SIZE)
    async with await InferenceSession.open(search, BLOCKS, facts, SETTINGS, num_rows=1) as session:
        for number in range(num_steps):
            await session.step(torch.full((1, 1, HIDDEN_SIZE), float(number)).double())
            await asyncio.sleep(0)
        return events, [hop.peer for hop in session.route]


async def test_a_server_that_leaves_is_left_between_two_steps() -> None:
    """It is told as a loss that cost the caller no time."""
    events, used = await run_steps({"s0"})

    lost, restored = events
    assert isinstance(lost, HopLost)
    assert (lost.peer, lost.reason) == ("s0", "leaving")
    assert isinstance(restored, HopRestored)
    assert restored.num_replayed_tokens > 0
    assert used == ["s1"]


async def test_two_servers_that_leave_at_once_are_left_one_after_the_other() -> None:
    """As when all servers with one configuration are restarted."""
    events, used = await run_steps({"s0", "s2"}, ("0:2", "0:2", "2:5", "2:5"), num_steps=20)

    assert [one.peer for one in events if isinstance(one, HopLost)] == ["s0", "s2"]
    assert used == ["s1", "s3"]


async def test_a_server_that_has_no_replica_holds_up_no_other_move() -> None:
    """Whoever has one is left, and the other is used to its end."""
    events, used = await run_steps({"s0", "s1"}, ("0:2", "2:5", "2:5"), num_steps=20)

    assert [one.peer for one in events if isinstance(one, HopLost)] == ["s1"]
    assert used == ["s0", "s2"]


async def test_nobody_moves_while_nobody_leaves() -> None:
    """There are others, but no reason."""
    events, used = await run_steps({"s1"})

    assert (events, used) == ([], ["s0"])


async def session_on_the_move(swarm: RememberingSwarm) -> InferenceSession:
    """Return a session that has begun to leave its first server."""
    search = RouteSearch(swarm, max_length=100)
    facts = replace(FACTS, num_blocks=len(BLOCKS), hidden_size=HIDDEN_SIZE)
    session = await InferenceSession.open(search, BLOCKS, facts, SETTINGS, num_rows=1)
    await session.step(torch.zeros(1, 1, HIDDEN_SIZE).double())
    return session


async def cancel_after(num_turns: int, task: asyncio.Task[object]) -> None:
    """Cancel a task when the loop has turned so often."""
    for _ in range(num_turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("num_turns", range(4))
async def test_closing_that_is_cancelled_during_a_move_leaves_all_servers(num_turns: int) -> None:
    """Those in use, and those that were to take over."""
    swarm = RememberingSwarm(("0:5", "0:5"), leaving={"s0"})
    session = await session_on_the_move(swarm)
    for _ in range(num_turns):  # the move has come so far
        await asyncio.sleep(0)

    await cancel_after(1, asyncio.create_task(session.close()))

    assert all(one.is_over for one in swarm.sessions)


@pytest.mark.parametrize("num_turns", range(8))
async def test_a_step_that_is_cancelled_while_others_take_over_forgets_none(num_turns: int) -> None:
    """Whoever was opened is in use, and left with the session."""
    swarm = RememberingSwarm(("0:5", "0:5"), leaving={"s0"})
    session = await session_on_the_move(swarm)
    for _ in range(20):  # the others are ready
        await asyncio.sleep(0)

    step = asyncio.create_task(session.step(torch.zeros(1, 1, HIDDEN_SIZE).double()))
    await cancel_after(num_turns, step)
    await session.close()

    assert len(swarm.sessions) > 1
    assert all(one.is_over for one in swarm.sessions)
