"""Outputs that go straight on to the next server, and the client's own copies of them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import torch

from swarm_protocol.dialect import (
    IS_COPY,
    ONLY_LAST,
    WANTS_PUSH,
    PushedEntry,
    PushedFrame,
    PushTarget,
    StepEntry,
    StepExtras,
    encode_pushed,
)
from swarm_protocol.identifiers import PeerId
from swarm_protocol.memory_node import MemoryNetwork
from tests.unit.swarm_server.engine.serving.running_sums import BLOCKS
from tests.unit.swarm_server.handlers.dialect.lane_bench import (
    LaneBench,
    RawLane,
    lane_server,
    opening,
)

TOKEN = b"t" * 16


@dataclass
class Route:
    """Two servers, and a session on both whose outputs go from the first to the second."""

    network: MemoryNetwork
    first: LaneBench
    second: LaneBench
    to_first: RawLane
    to_second: RawLane

    async def assert_both_are_free(self) -> None:
        for lane in (self.to_first, self.to_second):
            await lane.stream.finish()
        for server in (self.first, self.second):
            await server.assert_all_is_free()


@pytest.fixture
async def route() -> AsyncIterator[Route]:
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(lane_server(network, "first"))
        second = await stack.enter_async_context(lane_server(network, "second"))
        to_first, to_second = await first.lane(), await second.lane()
        await to_second.open(opening(1, token=TOKEN, num_rows=2))
        await to_second.next_opened()
        target = PushTarget(second.node.peer_id, TOKEN, BLOCKS)
        await to_first.open(opening(1, push_to=target, num_rows=2))
        await to_first.next_opened()
        yield Route(network, first, second, to_first, to_second)


ROWS = torch.tensor([[1.0, 1.0], [10.0, 10.0]])


async def test_outputs_go_on_to_the_next_server_and_to_the_client(route: Route) -> None:
    """The client sends to the first server only, and hears from both."""
    for number, sums in enumerate(([1, 10], [2, 20], [3, 30])):
        await route.to_first.send([StepEntry(1, number, number, 2, 1, WANTS_PUSH)], ROWS)

        entry, values = await route.to_first.next_output()
        assert (entry.flags, values) == (IS_COPY, sums)
        entry, _ = await route.to_second.next_output()
        assert (entry.session_id, entry.step, entry.position) == (1, number, number)

    await route.assert_both_are_free()


async def test_only_the_last_server_leaves_outputs_out(route: Route) -> None:
    """The next server needs them all, and so does the client, should that one be lost."""
    entry = StepEntry(1, 0, 0, 2, 2, WANTS_PUSH | ONLY_LAST)
    await route.to_first.send([entry], ROWS.repeat_interleave(2, 0))

    copy, values = await route.to_first.next_output()
    assert (copy.num_tokens, copy.flags, values) == (2, IS_COPY, [1, 2, 10, 20])
    last, values = await route.to_second.next_output()
    assert (last.position, last.num_tokens, last.flags) == (1, 1, ONLY_LAST)
    assert values == [3, 30]
    await route.assert_both_are_free()


async def test_a_server_with_one_behind_it_sends_all_even_if_nothing_is_pushed(
    route: Route,
) -> None:
    """Whoever sends the outputs on has all of them."""
    await route.to_first.send([StepEntry(1, 0, 0, 2, 2, ONLY_LAST)], ROWS.repeat_interleave(2, 0))

    assert (await route.to_first.next_output())[1] == [1, 2, 10, 20]


async def test_a_step_that_does_not_ask_for_it_is_not_pushed(route: Route) -> None:
    """As in a replay, or with deep prompts of the next blocks."""
    await route.to_first.send([StepEntry(1, 0, 0, 2, 1)], ROWS)
    assert (await route.to_first.next_output())[0].flags == 0

    await route.to_second.send([StepEntry(1, 0, 0, 2, 1)], ROWS)

    assert (await route.to_second.next_output())[1] == [1, 10]
    assert route.second.engine.engine.counters.num_batches == 1


async def test_hypo_ids_go_with_what_is_pushed(route: Route) -> None:
    """The next server reorders its rows in the same way."""
    await route.to_first.send([StepEntry(1, 0, 0, 2, 1, WANTS_PUSH)], ROWS)
    await route.to_second.next_output()

    extras = {0: StepExtras(hypo_ids=torch.tensor([1, 1]))}
    await route.to_first.send([StepEntry(1, 1, 1, 2, 1, WANTS_PUSH)], ROWS, extras)

    assert (await route.to_first.next_output())[1] == [1, 10]
    assert (await route.to_first.next_output())[1] == [11, 20]
    assert (await route.to_second.next_output())[1] == [21, 30]


async def test_a_step_is_computed_once_whoever_sends_it(route: Route) -> None:
    """The client's own copy, late, gets no second reply."""
    await route.to_first.send([StepEntry(1, 0, 0, 2, 1, WANTS_PUSH)], ROWS)
    await route.to_second.next_output()

    await route.to_second.send([StepEntry(1, 0, 0, 2, 1)], ROWS)
    await route.to_second.send([StepEntry(1, 1, 1, 2, 1)], ROWS)

    assert (await route.to_second.next_output())[0].step == 1
    assert route.second.engine.engine.counters.num_batches == 2


@pytest.mark.parametrize(("number", "position"), [(0, 0), (2, 9)])
async def test_a_push_that_comes_late_or_too_early_is_ignored(
    route: Route, number: int, position: int
) -> None:
    """The client's copies decide, and the session goes on."""
    await route.to_second.send([StepEntry(1, 0, 0, 2, 1)], ROWS)
    await route.to_second.next_output()
    pusher = await route.second.lane()

    await pusher.stream.send(
        encode_pushed(PushedFrame([PushedEntry(TOKEN, number, position, 2, 1)], ROWS))
    )
    await pusher.open(opening(5))
    await pusher.next_opened()  # the push has arrived
    await route.to_second.send([StepEntry(1, 1, 1, 2, 1)], ROWS)

    assert (await route.to_second.next_output())[1] == [2, 20]


async def test_a_push_of_no_session_is_ignored(route: Route) -> None:
    """Its session may have ended just now; the stream goes on."""
    pusher = await route.second.lane()

    await pusher.stream.send(encode_pushed(PushedFrame([PushedEntry(b"?" * 16, 0, 0, 2, 1)], ROWS)))

    await pusher.open(opening(5))
    assert (await pusher.next_opened()).session_id == 5


async def test_a_next_server_that_is_gone_disturbs_nobody(route: Route) -> None:
    """The client gets its copy, and finds out by itself."""
    route.network.cut(route.second.node.peer_id)

    for number in range(2):
        await route.to_first.send([StepEntry(1, number, number, 2, 1, WANTS_PUSH)], ROWS)
        await route.to_first.next_output()

    assert route.first.engine.engine.counters.num_batches == 2


async def test_a_next_server_that_comes_back_is_pushed_to_again(route: Route) -> None:
    """Every push after a failure tries anew."""
    lost = route.second.node.peer_id
    route.network.cut(lost)
    await route.to_first.send([StepEntry(1, 0, 0, 2, 1, WANTS_PUSH)], ROWS)
    await route.to_first.next_output()
    route.network.heal(lost)
    lane = await route.second.lane()
    await lane.open(opening(1, token=TOKEN, num_rows=2))
    await lane.next_opened()
    await lane.send([StepEntry(1, 0, 0, 2, 1)], ROWS)
    await lane.next_output()

    await route.to_first.send([StepEntry(1, 1, 1, 2, 1, WANTS_PUSH)], ROWS)

    assert (await lane.next_output())[0].step == 1


async def test_a_peer_that_does_not_exist_is_no_harm() -> None:
    """Anybody may write anything there."""
    async with lane_server() as server:
        lane = await server.lane()
        nobody = PushTarget(PeerId("nobody"), TOKEN, BLOCKS)
        await lane.open(opening(1, push_to=nobody))

        await lane.step(1, 0, 0, 1.0, flags=WANTS_PUSH)

        assert (await lane.next_output())[1] == [1]
