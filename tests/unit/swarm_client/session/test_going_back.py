"""Sessions that go back anywhere and change their rows, by the servers' help or by replay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import torch

from swarm_client.errors import (
    MaxLengthExceededError,
    RollbackUnsupportedError,
    SessionClosedError,
)
from swarm_client.session import InferenceSession
from tests.unit.swarm_client.scripted_server import expected_output
from tests.unit.swarm_client.scripted_swarm import (
    SETTINGS,
    Swarm,
    eventually,
    hidden_states,
    swarm_of,
)


@asynccontextmanager
async def session_in(swarm: Swarm) -> AsyncIterator[InferenceSession]:
    session = await swarm.model.open_session(max_length=20)
    yield session
    await session.close()


async def test_servers_that_can_roll_back_are_asked_to() -> None:
    """Nothing is sent again."""
    async with swarm_of(["0:4"]) as swarm:
        swarm.servers[0].can_roll_back()
        async with session_in(swarm) as session:
            await session.step(hidden_states(5))
            session.roll_back(2)
            await session.step(hidden_states(1))

            assert session.position == 3
        assert [step.start_from_position for step in swarm.servers[0].steps] == [None, None, 2]


async def test_others_get_what_is_left_in_a_fresh_session() -> None:
    """The key that they may not know is never sent."""
    async with swarm_of(["0:2", "2:4"]) as swarm, session_in(swarm) as session:
        first, last = hidden_states(4), hidden_states(1)
        await session.step(first)
        session.roll_back(2)
        output = await session.step(last)

        assert output.equal(expected_output(last))
        assert session.position == 3
        for server in swarm.servers:
            assert [step.start_from_position for step in server.steps] == [None] * 3
            assert len({step.session_id for step in server.steps}) == 2
            assert server.num_ended == 1
        assert swarm.servers[0].inputs[1].equal(first[:, :2])


async def test_a_server_that_cannot_roll_back_is_replayed_alone() -> None:
    """The others are asked to, and get only what is new."""
    async with swarm_of(["0:1", "1:3", "3:4"]) as swarm:
        for index in (0, 2):
            swarm.servers[index].can_roll_back()
        async with session_in(swarm) as session:
            await session.step(hidden_states(4))
            session.roll_back(2)
            last = hidden_states(1)
            output = await session.step(last)

            assert output.equal(expected_output(last))
        asked = [[step.start_from_position for step in server.steps] for server in swarm.servers]
        assert asked == [[None, 2], [None, None, None], [None, 2]]
        assert [inputs.shape[1] for inputs in swarm.servers[1].inputs] == [4, 2, 1]


async def test_rolling_back_several_times_replays_once() -> None:
    """Nothing is sent before the next step."""
    async with swarm_of(["0:4"]) as swarm, session_in(swarm) as session:
        await session.step(hidden_states(4))
        session.roll_back(3)
        session.roll_back(3)
        session.roll_back(1)
        await session.step(hidden_states(1))

        assert [inputs.shape[1] for inputs in swarm.servers[0].inputs] == [4, 1, 1]


async def test_from_the_start_any_number_of_rows_will_do() -> None:
    """There is nothing to replay."""
    async with swarm_of(["0:4"]) as swarm, session_in(swarm) as session:
        await session.step(hidden_states(2, batch_size=2))
        with pytest.raises(ValueError, match="has 2 rows, got 3"):
            await session.step(hidden_states(1, batch_size=3))
        session.roll_back(0)

        await session.step(hidden_states(1, batch_size=3))

        assert (session.position, session.num_rows) == (1, 3)


async def test_as_many_rows_in_another_order_are_reordered_by_the_servers() -> None:
    """What the step itself asks for comes on top."""
    async with swarm_of(["0:4"]) as swarm, session_in(swarm) as session:
        await session.step(hidden_states(2, batch_size=3))
        session.take_rows(torch.tensor([2, 2, 0]))
        await session.step(hidden_states(1, batch_size=3), hypo_ids=torch.tensor([2, 1, 0]))

        hypo_ids = swarm.servers[0].extras[1][1]
        assert hypo_ids is not None
        assert hypo_ids.tolist() == [0, 2, 2]


async def test_fewer_or_more_rows_are_replayed() -> None:
    """Each with its own history."""
    async with swarm_of(["0:4"]) as swarm, session_in(swarm) as session:
        first, second = hidden_states(2, batch_size=2), hidden_states(1, batch_size=2)
        await session.step(first)
        await session.step(second, hypo_ids=torch.tensor([1, 1]))
        session.take_rows(torch.tensor([0, 1, 1]))
        assert session.num_rows == 3
        await session.step(hidden_states(1, batch_size=3))

        replayed = torch.cat(swarm.servers[0].inputs[2:-1], dim=1)
        assert replayed.equal(torch.cat([first[[1, 1, 1]], second[[0, 1, 1]]], dim=1))


async def test_deep_prompts_are_replayed_with_the_tokens_that_they_belong_to() -> None:
    """At position 0 only."""
    async with swarm_of(["0:4"]) as swarm, session_in(swarm) as session:
        prompts = torch.ones(4, 1, 2, 8)
        await session.step(hidden_states(3), prompts=prompts)
        session.roll_back(2)
        await session.step(hidden_states(1))

        sent = [extras[0] for extras in swarm.servers[0].extras]
        assert sent[1] is not None
        assert sent[1].equal(prompts)
        assert sent[2] is None or sent[2].numel() == 0


async def test_a_cancelled_step_may_be_tried_again() -> None:
    """An interrupt in a notebook costs a replay."""
    async with swarm_of(["0:4"]) as swarm, session_in(swarm) as session:
        await session.step(hidden_states(3))
        swarm.servers[0].is_silent = True
        step = asyncio.create_task(session.step(hidden_states(1)))
        await eventually(lambda: len(swarm.servers[0].steps) == 2)
        step.cancel()
        await asyncio.wait([step])
        swarm.servers[0].is_silent = False

        await session.step(hidden_states(1))

        assert session.position == 4


async def test_what_is_refused_before_sending_costs_nothing() -> None:
    """The session is where it was, and nothing is replayed."""
    async with swarm_of(["0:4"]) as swarm, session_in(swarm) as session:
        await session.step(hidden_states(3))
        with pytest.raises(MaxLengthExceededError):
            await session.step(hidden_states(18))
        with pytest.raises(ValueError, match="hypo_ids must be in"):
            await session.step(hidden_states(1), hypo_ids=torch.tensor([1]))
        await session.step(hidden_states(1))

        assert [inputs.shape[1] for inputs in swarm.servers[0].inputs] == [3, 1]


async def test_inputs_too_many_to_keep_leave_only_the_start_to_go_back_to() -> None:
    """The session itself goes on."""
    settings = SETTINGS.model_copy(update={"max_history_bytes": 100})
    async with swarm_of(["0:4"], settings) as swarm, session_in(swarm) as session:
        await session.step(hidden_states(3))
        await session.step(hidden_states(2))
        with pytest.raises(RollbackUnsupportedError):
            session.roll_back(1)
        with pytest.raises(RollbackUnsupportedError):
            session.take_rows(torch.tensor([0, 0]))
        await session.step(hidden_states(1))
        assert session.position == 6

        session.roll_back(0)
        await session.step(hidden_states(1))

        assert session.position == 1


async def test_a_closed_session_stays_closed() -> None:
    """Its servers are told once."""
    async with swarm_of(["0:4"]) as swarm:
        async with session_in(swarm) as session:
            await session.step(hidden_states(3))
        with pytest.raises(SessionClosedError):
            await session.step(hidden_states(1))
        await eventually(swarm.is_idle)

        assert swarm.servers[0].num_ended == 1
