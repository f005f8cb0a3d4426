"""Sessions whose servers send outputs on to each other, against scripted servers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch

from swarm_client.lanes import Lanes, chained_session, lane_session
from swarm_client.lanes.chained_session import patience_s
from swarm_client.routing import Hop
from swarm_client.session.hop_session import HopOutput, HopSession, StepInputs
from swarm_protocol.dialect import WANTS_PUSH, OutputsFrame
from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.memory_node import MemoryNetwork
from tests.unit.swarm_client.lanes.scripted_lane_server import TERMS, ScriptedLaneServer
from tests.unit.swarm_client.scripted_server import FACTS, expected_output
from tests.unit.swarm_client.scripted_swarm import eventually, hidden_states
from tests.unit.swarm_client.session.remembering_swarm import RememberingSwarm

SPANS = [BlockRange(0, 1), BlockRange(1, 2), BlockRange(2, 4)]


@dataclass
class Row:
    """Three servers, and a session on each, chained."""

    servers: Sequence[ScriptedLaneServer]
    sessions: Sequence[HopSession]

    async def run(
        self, num_tokens: int, position: int, *, only_last: bool = False
    ) -> list[HopOutput]:
        """Take a step along all of them."""
        outputs: list[HopOutput] = []
        hidden = hidden_states(num_tokens)
        for session in self.sessions:
            inputs = StepInputs(hidden, only_last_at=SPANS[-1].end if only_last else None)
            outputs.append(await session.step(inputs, position=position))
            hidden = outputs[-1].hidden
        return outputs

    def num_sent(self) -> list[int]:
        """Return how many steps we have sent to each server ourselves."""
        return [len(server.steps) for server in self.servers]


def lanes_of(network: MemoryNetwork) -> Lanes:
    return Lanes(
        network.node("client"),
        dht_prefix=FACTS.dht_prefix,
        hidden_size=FACTS.hidden_size,
        timeout_s=5,
    )


@asynccontextmanager
async def chained_row(
    max_tokens_of_second: int = 64,
    max_tokens_of_third: int = 64,
    step_timeout_s: float = 5,
    unknowing: int | None = None,
) -> AsyncIterator[Row]:
    network = MemoryNetwork()
    servers = [await ScriptedLaneServer.start(network, f"s{index}") for index in range(3)]
    for server, neighbour in pairwise(servers):
        server.neighbour = neighbour
    servers[1].says(max_frame_tokens=max_tokens_of_second)
    servers[2].says(max_frame_tokens=max_tokens_of_third)
    if unknowing is not None:
        servers[unknowing].says(step_flags=WANTS_PUSH)
    lanes = lanes_of(network)
    sessions = []
    for server, blocks in zip(servers, SPANS, strict=True):
        terms = replace(TERMS, step_timeout_s=step_timeout_s)
        session = await lanes.session(Hop(server.peer, blocks), terms)
        assert session is not None
        sessions.append(session)
    yield Row(servers, lanes.chain(sessions))
    await lanes.close()
    for node in network.nodes.values():
        await node.close()


async def test_only_the_first_server_is_sent_a_step() -> None:
    """The outputs of all come back: they are the inputs that a successor would need."""
    async with chained_row() as row:
        for position, num_tokens in ((0, 4), (4, 1), (5, 1)):
            outputs = await row.run(num_tokens, position)

            for output, end in zip(outputs, (1, 2, 4), strict=True):
                expected = expected_output(hidden_states(num_tokens), BlockRange(0, end))
                assert torch.equal(output.hidden, expected)
        assert row.num_sent() == [3, 0, 0]
        assert [len(server.openings) for server in row.servers] == [1, 1, 1]


async def test_only_the_last_server_leaves_outputs_out() -> None:
    """The others' are the inputs that a successor would need; they hand the wish on."""
    async with chained_row() as row:
        outputs = await row.run(4, 0, only_last=True)

        assert [output.hidden.shape[1] for output in outputs] == [4, 4, 1]
        assert torch.equal(outputs[-1].hidden, expected_output(hidden_states(4))[:, -1:])
        assert row.num_sent() == [1, 0, 0]


@pytest.mark.parametrize("unknowing", range(3))
async def test_a_row_in_which_one_server_does_not_know_it_sends_all_outputs(
    unknowing: int,
) -> None:
    """It would have to hand the wish on, or to heed it."""
    async with chained_row(unknowing=unknowing) as row:
        outputs = await row.run(4, 0, only_last=True)

        assert [output.hidden.shape[1] for output in outputs] == [4, 4, 4]
        assert row.num_sent() == [1, 0, 0]


@pytest.mark.parametrize("dropping", [0, 1])
async def test_what_we_send_in_place_of_a_push_says_what_is_wanted(dropping: int) -> None:
    """Whatever of the row the servers still push by themselves."""
    async with chained_row() as row:
        row.servers[dropping].neighbour = None

        outputs = await row.run(4, 0, only_last=True)

        assert [output.hidden.shape[1] for output in outputs] == [4, 4, 1]


async def test_outputs_that_do_not_arrive_are_sent_by_us() -> None:
    """From there on the servers push again."""
    async with chained_row() as row:
        row.servers[0].neighbour = None

        outputs = await row.run(2, 0)

        assert torch.equal(outputs[-1].hidden, expected_output(hidden_states(2)))
        assert row.num_sent() == [1, 1, 0]


async def test_a_server_that_says_it_took_an_hour_is_waited_for_as_long_as_for_a_step() -> None:
    """Its word for that is as good as any."""
    async with chained_row(step_timeout_s=0.05) as row:
        row.servers[0].neighbour = None
        row.servers[0].transform = lambda frame: OutputsFrame(
            [entry._replace(compute_us=2**32 - 1) for entry in frame.entries], frame.hidden
        )

        async with asyncio.timeout(5):
            await row.run(2, 0)

        assert row.num_sent() == [1, 1, 0]


def test_a_server_may_take_longer_than_the_one_before_and_as_long_a_way() -> None:
    """One whose answer was there already, had no way."""
    before = HopOutput(torch.empty(0), queue_ms=100.0, compute_ms=400.0)

    way_s = [patience_s(before, took_s) - patience_s(before, 0.0) for took_s in (0.4, 0.5, 3.5)]

    assert way_s == pytest.approx([0, 0, 3])
    assert 1 < patience_s(before, 0.0) < 2
    assert 0 < patience_s(HopOutput(torch.empty(0)), 0.0) < 0.2


async def test_waiting_for_memory_is_no_way_of_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was full for long makes nobody wait as long for pushes that get lost."""
    now_s = 0.0
    monkeypatch.setattr(chained_session, "monotonic", lambda: now_s)
    monkeypatch.setattr(lane_session, "monotonic", lambda: now_s)
    async with chained_row() as row:
        first = row.servers[0]
        first.neighbour = None
        first.may_open.clear()
        running = asyncio.ensure_future(row.run(2, 0))
        await eventually(lambda: len(first.openings) == 1)
        now_s = 100.0
        first.may_open.set()

        async with asyncio.timeout(3):
            await running

        assert row.num_sent() == [1, 1, 0]


async def test_pushes_that_get_lost_again_and_again_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then each server is sent its inputs by us at once."""
    async with chained_row() as row:
        row.servers[0].neighbour = None
        for position in range(3):
            await row.run(1, position)
        monkeypatch.setattr(chained_session, "_PATIENCE_S", 60.0)

        await row.run(1, 3)

        assert row.num_sent() == [4, 4, 0]


async def test_pushes_that_come_after_all_are_what_we_send_as_well() -> None:
    """A server that has run a step for another one takes no other step by its number."""
    async with chained_row() as row:
        row.servers[1].neighbour = None
        for position in range(3):
            await row.run(1, position)
        row.servers[1].neighbour = row.servers[2]

        outputs = await row.run(1, 3)

        assert torch.equal(outputs[-1].hidden, expected_output(hidden_states(1)))
        numbers = [server.steps[-1].entries[0].step for server in row.servers[::2]]
        assert numbers[1] <= numbers[0]


async def test_what_a_server_may_have_been_pushed_is_no_number_of_ours() -> None:
    """Though the step is too large for it, and it should not have been."""
    async with chained_row(64, 2) as row:
        first, second, third = row.sessions
        await row.run(1, position=0)
        large = hidden_states(4)
        for session in (first, second):
            await session.step(StepInputs(large), position=1)

        await third.step(StepInputs(large[:, :2]), position=1)

        numbers = [server.steps[-1].entries[0].step for server in row.servers[::2]]
        assert numbers[1] > numbers[0]


async def test_deep_prompts_are_never_pushed() -> None:
    """A server has only those of its own blocks."""
    async with chained_row() as row:
        hidden = hidden_states(2)
        for session in row.sessions:
            prompts = torch.zeros(len(session.hop.blocks), 1, 1, FACTS.hidden_size)
            output = await session.step(StepInputs(hidden, prompts), position=0)
            hidden = output.hidden

        assert row.num_sent() == [1, 1, 1]


async def test_a_step_too_large_for_a_later_server_is_not_pushed_to_it() -> None:
    """It comes to that in parts, sent by us."""
    async with chained_row(max_tokens_of_second=3) as row:
        first, second, _ = row.sessions
        output = await first.step(StepInputs(hidden_states(4)), position=0)

        for position in (0, 2):
            part = output.hidden[:, position : position + 2]
            await second.step(StepInputs(part), position=position)

        assert row.servers[0].steps[0].entries[0].flags == 0
        assert row.num_sent() == [1, 2, 0]


async def test_a_failure_in_the_middle_is_told_to_whoever_asks_that_hop() -> None:
    """The hop before has its outputs; nobody else is told."""
    async with chained_row() as row:
        row.servers[1].refused = ["not_served"]
        first, second, _ = row.sessions
        output = await first.step(StepInputs(hidden_states(1)), position=0)
        await eventually(lambda: not row.servers[1].refused)

        with pytest.raises(PeerRefusedError):
            await second.step(StepInputs(output.hidden), position=0)


async def test_sessions_are_chained_only_if_all_are_in_lanes() -> None:
    """A server of the Petals dialect could not be told where to send its outputs."""
    network = MemoryNetwork()
    server = await ScriptedLaneServer.start(network, "server")
    lanes = lanes_of(network)
    in_lane = await lanes.session(Hop(server.peer, SPANS[0]), TERMS)
    swarm = RememberingSwarm(["1:2"])
    dialled = await swarm.dial((Hop(swarm.servers[0].peer, SPANS[1]),), max_length=9)
    assert in_lane is not None
    sessions = [in_lane, *dialled.hops]

    assert lanes.chain(sessions) is sessions

    await lanes.close()


async def test_a_server_that_was_left_is_not_waited_for() -> None:
    """What it should have sent on is sent by us at once, and not after a tenth of a second."""
    async with chained_row() as row:
        await row.run(2, position=0)
        row.servers[1].neighbour = None  # what follows gets lost
        first, second, third = row.sessions
        hidden = hidden_states(1)
        outputs = (await first.step(StepInputs(hidden), position=2)).hidden
        second.abandon()
        loop = asyncio.get_running_loop()

        began_at = loop.time()
        await third.step(StepInputs(outputs), position=2)

        assert loop.time() - began_at < 0.05
        assert row.num_sent() == [2, 0, 1]
