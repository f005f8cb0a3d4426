"""Sessions in lanes, against a scripted server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import Tensor

from swarm_client.errors import ModelClosedError, PeerFullError, SessionClosedError
from swarm_client.lanes import Lanes
from swarm_client.lanes.lane import Lane
from swarm_client.lanes.lane_session import LaneHopSession
from swarm_client.routing import Hop
from swarm_client.session.hop_session import HopOutput, SessionTerms, StepInputs
from swarm_protocol.busy_polling import BusyPolling
from swarm_protocol.dialect import (
    MAX_PREFIX_HASHES,
    ONLY_LAST,
    STEP_FLAGS,
    WANTS_PUSH,
    OutputsFrame,
)
from swarm_protocol.dialect.methods import STEPS
from swarm_protocol.errors import (
    DeadlineExceededError,
    PeerError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnreachableError,
)
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.node import CallStream
from tests.unit.swarm_client.lanes.scripted_lane_server import (
    HELLO_REPLY,
    TERMS,
    ScriptedLaneServer,
)
from tests.unit.swarm_client.scripted_server import FACTS, ScriptedServer, expected_output
from tests.unit.swarm_client.scripted_swarm import eventually, hidden_states

BLOCKS = BlockRange(0, 2)


class Client:
    """Lanes of a client, and one server."""

    def __init__(self, network: MemoryNetwork, server: ScriptedLaneServer) -> None:
        self.network = network
        self.server = server
        self.leaving: list[PeerId] = []
        self.lost: list[PeerId] = []
        self.lanes = Lanes(
            network.node("client"),
            dht_prefix=FACTS.dht_prefix,
            hidden_size=FACTS.hidden_size,
            timeout_s=5,
            on_leaving=self.leaving.append,
            on_lost=self.lost.append,
        )

    async def session(
        self, peer: PeerId | None = None, terms: SessionTerms = TERMS
    ) -> LaneHopSession:
        session = await self.lanes.session(Hop(peer or self.server.peer, BLOCKS), terms)
        assert session is not None
        return session

    async def sessions(self, count: int) -> list[LaneHopSession]:
        return [await self.session() for _ in range(count)]


@asynccontextmanager
async def lane_client() -> AsyncIterator[Client]:
    network = MemoryNetwork()
    client = Client(network, await ScriptedLaneServer.start(network, "server"))
    yield client
    await client.lanes.close()
    for node in network.nodes.values():
        await node.close()


@asynccontextmanager
async def running_lane(
    stream: CallStream, peer: PeerId, polling: BusyPolling | None = None
) -> AsyncIterator[Lane]:
    """Yield a lane on a stream of the test."""
    lane = Lane(peer, stream, HELLO_REPLY, polling=polling)
    running = asyncio.create_task(lane.run())
    yield lane
    running.cancel()
    await asyncio.wait([running])


async def step(session: LaneHopSession, hidden: Tensor, position: int = 0) -> HopOutput:
    return await session.step(StepInputs(hidden), position=position)


async def step_all(sessions: Sequence[LaneHopSession], position: int = 0) -> list[HopOutput]:
    """Let all of them run a token, each one its own."""
    return await asyncio.gather(
        *(step(session, one_token(index), position) for index, session in enumerate(sessions))
    )


def one_token(value: float) -> Tensor:
    return torch.full((1, 1, FACTS.hidden_size), float(value))


async def failures_of(*steps: asyncio.Task[HopOutput]) -> list[BaseException]:
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]


async def test_a_step_comes_back_with_its_timings() -> None:
    """In milliseconds, as the server measured them."""
    async with lane_client() as client:
        hidden = hidden_states(3, batch_size=2)

        output = await step(await client.session(), hidden)

        assert torch.equal(output.hidden, expected_output(hidden, BLOCKS))
        assert (output.queue_ms, output.compute_ms) == (1.5, 2.5)


async def test_a_server_that_is_about_to_stop_says_so_and_goes_on() -> None:
    """Its sessions are told nothing: whoever owns them has others take over."""
    async with lane_client() as client:
        session = await client.session()
        await step(session, one_token(1))

        await client.server.tell_draining()

        output = await step(session, one_token(2), 1)
        assert torch.equal(output.hidden, expected_output(one_token(2), BLOCKS))
        assert client.leaving == [client.server.peer]


async def test_steps_of_one_moment_leave_in_one_frame_again_and_again() -> None:
    """Sessions that are answered together go on together; each gets its own rows."""
    async with lane_client() as client:
        sessions = await client.sessions(8)

        for position in range(3):
            outputs = await step_all(sessions, position)

        assert [len(frame.entries) for frame in client.server.steps] == [8, 8, 8]
        assert len(client.server.openings) == 8
        for index, output in enumerate(outputs):
            assert torch.equal(output.hidden, expected_output(one_token(index), BLOCKS))


async def test_only_decode_steps_keep_the_loop_awake() -> None:
    """Who sends a prompt waits for longer than it takes to wake up."""
    async with lane_client() as client:
        readings = count()
        polling = BusyPolling(lambda: float(next(readings)), linger_s=0.0)
        stream = await client.network.node("other").open_stream(client.server.peer, STEPS)
        async with running_lane(stream, client.server.peer, polling) as lane:
            session = lane.session(Hop(client.server.peer, BLOCKS), TERMS)

            await step(session, hidden_states(3))
            assert next(readings) == 0
            await step(session, one_token(1), 3)

        assert next(readings) > 1


async def test_a_frame_leaves_with_the_last_session_that_was_answered() -> None:
    """In the call that submits its step, before the loop turns."""
    async with lane_client() as client:
        stream = await client.network.node("other").open_stream(client.server.peer, STEPS)
        async with running_lane(stream, client.server.peer) as lane:
            hop = Hop(client.server.peer, BLOCKS)
            sessions = [lane.session(hop, TERMS) for _ in range(2)]
            await step_all(sessions)
            has_room = [stream.has_room]

            for session in sessions:
                inputs = StepInputs(one_token(1))
                session.submit(inputs, session.expect(next(session.numbers), 1, inputs))
                has_room.append(stream.has_room)

            assert has_room == [True, True, False]
            assert len(client.server.steps) == 1


async def test_a_session_may_wait_for_kv_memory() -> None:
    """As long as the client's settings say, until the server says that there is enough."""
    async with lane_client() as client:
        session = await client.session()
        assert session.may_queue
        await step(session, hidden_states(3))

        assert [opening.wait_s for opening in client.server.openings] == [3]
        assert not session.may_queue


async def test_a_greeting_opens_the_lane_that_sessions_will_use() -> None:
    """They find it open; of a peer that is no server of our dialect it says so."""
    async with lane_client() as client:
        assert await client.lanes.greet(client.server.peer)
        await client.session()

        assert client.server.num_hellos == 1


async def test_one_opening_serves_all_who_come_at_once() -> None:
    """One hello, one stream."""
    async with lane_client() as client:
        await asyncio.gather(*(client.session() for _ in range(5)))

        assert client.server.num_hellos == 1
        assert len(client.server.node.pipes) == 1


async def test_a_peer_without_hello_is_asked_once_and_spoken_to_in_petals_dialect() -> None:
    """Until it is to be forgotten: it may come back as another program."""
    async with lane_client() as client:
        petals = await ScriptedServer.start(client.network, "petals", "0:2")
        hop = Hop(petals.peer, BLOCKS)

        assert await client.lanes.session(hop, TERMS) is None
        await petals.node.serve_unary("swarmgate.hello", client.server._greet)
        await petals.node.serve_stream("swarmgate.steps", client.server._serve)
        assert await client.lanes.session(hop, TERMS) is None
        client.lanes.forget(petals.peer)

        assert await client.lanes.session(hop, TERMS) is not None


async def test_hidden_states_travel_in_the_servers_dtype() -> None:
    """It computes in that anyway; deep prompts and the order of rows travel with them."""
    async with lane_client() as client:
        client.server.says(dtype=torch.bfloat16)
        session = await client.session()
        inputs = StepInputs(
            hidden_states(2, batch_size=2),
            prompts=torch.ones(2, 1, 1, FACTS.hidden_size),
            hypo_ids=torch.tensor([1, 0]),
        )

        output = await session.step(inputs, position=0)

        (frame,) = client.server.steps
        assert frame.hidden.dtype == output.hidden.dtype == torch.bfloat16
        assert frame.extras[0].hypo_ids is not None
        assert frame.extras[0].hypo_ids.tolist() == [1, 0]
        assert frame.extras[0].prompts is not None
        assert frame.extras[0].prompts.shape == (2, 1, 1, FACTS.hidden_size)


async def test_a_lost_stream_fails_every_session_at_once() -> None:
    """Those that wait, and those that come later; new ones get a new lane."""
    async with lane_client() as client:
        client.server.may_answer.clear()
        waiting, idle = await client.sessions(2)
        task = asyncio.create_task(step(waiting, one_token(1)))
        await eventually(lambda: len(client.server.steps) == 1)

        client.network.cut(client.server.peer)

        (failure,) = await failures_of(task)
        assert isinstance(failure, PeerUnreachableError)
        with pytest.raises(PeerUnreachableError):
            await step(idle, one_token(1))
        client.network.heal(client.server.peer)
        client.server.may_answer.set()
        await step(await client.session(), one_token(1))
        assert client.server.num_hellos == 2


async def test_a_lost_stream_is_told_though_nobody_uses_it() -> None:
    """One that is ended by us is not."""
    async with lane_client() as client:
        await client.lanes.greet(client.server.peer)

        client.network.cut(client.server.peer)

        await eventually(lambda: client.lost == [client.server.peer])
        client.network.heal(client.server.peer)
        await client.lanes.greet(client.server.peer)
        client.lanes.forget(client.server.peer)
        await eventually(lambda: not client.server.node.pipes)
        assert client.lost == [client.server.peer]


async def test_a_refused_session_fails_alone() -> None:
    """Its neighbours in the frame go on."""
    async with lane_client() as client:
        client.server.refused = ["kv_memory_exhausted", "not_served"]
        sessions = await client.sessions(3)
        steps = [asyncio.create_task(step(session, one_token(1))) for session in sessions]

        full, other = await failures_of(*steps)

        assert isinstance(full, PeerFullError)
        assert type(other) is PeerRefusedError
        assert torch.equal((await steps[2]).hidden, expected_output(one_token(1), BLOCKS))


async def test_a_caller_who_leaves_cancels_its_step_and_ends_its_session() -> None:
    """The answer, when it still comes, is nobody's; the others get theirs."""
    async with lane_client() as client:
        client.server.may_answer.clear()
        leaving, staying = await client.sessions(2)
        left = asyncio.create_task(step(leaving, one_token(1)))
        kept = asyncio.create_task(step(staying, one_token(2)))
        await eventually(lambda: len(client.server.steps) == 1)

        left.cancel()
        await asyncio.wait([left])
        leaving.abandon()
        client.server.may_answer.set()

        assert torch.equal((await kept).hidden, expected_output(one_token(2), BLOCKS))
        await eventually(lambda: bool(client.server.closed))
        assert client.server.cancelled == client.server.closed == [leaving.session_id]


async def test_a_session_that_is_left_during_its_step_ends_it_at_once() -> None:
    """Though no answer comes; the room that it took is free for others."""
    async with lane_client() as client:
        client.server.says(max_frame_tokens=4, max_inflight_tokens=8)  # half of them for prefills
        left, staying = await client.sessions(2)
        client.server.transform = lambda frame: (
            None if frame.entries[0].session_id == left.session_id else frame
        )
        under_way = asyncio.create_task(step(left, hidden_states(4)))
        waiting = asyncio.create_task(step(staying, hidden_states(4)))
        await eventually(lambda: len(client.server.steps) == 1)

        left.abandon()

        (failure,) = await failures_of(under_way, waiting)
        assert isinstance(failure, SessionClosedError)
        with pytest.raises(SessionClosedError):
            await step(left, one_token(1), 4)


async def test_a_silent_server_is_waited_for_only_so_long() -> None:
    """Then the step is cancelled."""
    async with lane_client() as client:
        client.server.transform = lambda frame: None
        session = await client.session(terms=replace(TERMS, step_timeout_s=0.01))

        with pytest.raises(DeadlineExceededError):
            await step(session, one_token(1))

        await eventually(lambda: client.server.cancelled == [session.session_id])


async def test_a_poisoned_row_fails_its_session_only() -> None:
    """Hidden states that are not finite are not passed on."""

    def poison(frame: OutputsFrame) -> OutputsFrame:
        frame.hidden[0, 0] = torch.inf
        return frame

    async with lane_client() as client:
        client.server.transform = poison
        sessions = await client.sessions(2)
        steps = [asyncio.create_task(step(session, one_token(1))) for session in sessions]

        (failure,) = await failures_of(*steps)

        assert isinstance(failure, PeerMisbehavedError)
        assert (await steps[1]).hidden.isfinite().all()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frame: OutputsFrame(frame.entries, frame.hidden.to(torch.float16)),
        lambda frame: OutputsFrame(frame.entries, frame.hidden[:, :4]),
    ],
    ids=["dtype", "hidden size"],
)
async def test_outputs_of_another_kind_end_the_lane(spoil: object) -> None:
    """Nothing that such a server sends can be trusted."""
    async with lane_client() as client:
        client.server.transform = spoil  # type: ignore[assignment]  # one of the lambdas above

        with pytest.raises(PeerMisbehavedError):
            await step(await client.session(), one_token(1))

        assert not client.server.node.pipes


@pytest.mark.parametrize("num_tokens", [0, 1])
@pytest.mark.parametrize("num_sessions", [1, 2])
async def test_another_number_of_tokens_back_fails_the_session(
    num_sessions: int, num_tokens: int
) -> None:
    """Its rows could not be told apart."""

    def shorten(frame: OutputsFrame) -> OutputsFrame:
        entries = [entry._replace(num_tokens=num_tokens) for entry in frame.entries]
        return OutputsFrame(entries, frame.hidden[: len(entries) * num_tokens])

    async with lane_client() as client:
        client.server.transform = shorten
        sessions = await client.sessions(num_sessions)
        steps = [asyncio.create_task(step(session, hidden_states(3))) for session in sessions]

        failures = await failures_of(*steps)

        assert [type(failure) for failure in failures] == [PeerMisbehavedError] * num_sessions


async def test_openings_of_long_prompts_are_as_many_frames_as_it_takes() -> None:
    """Of each prompt the first pages are named, as many as an opening may name."""
    async with lane_client() as client:
        client.server.says(page_size=1)
        sessions = await client.sessions(3)

        await asyncio.gather(*(session.match_prefix(range(40_000)) for session in sessions))

        num_hashes = [len(opening.prefix_hashes) for opening in client.server.openings]
        assert num_hashes == [MAX_PREFIX_HASHES] * 3


async def test_a_server_that_knows_it_sends_only_the_last_token() -> None:
    """It is asked to where nobody reads what comes before."""
    async with lane_client() as client:
        inputs = StepInputs(hidden_states(3, batch_size=2))

        output = await (await client.session()).step(inputs.only_last(BLOCKS), position=0)

        assert client.server.steps[0].entries[0].flags == ONLY_LAST
        assert torch.equal(output.hidden, expected_output(inputs.hidden, BLOCKS)[:, -1:])


async def test_a_server_that_is_not_the_last_one_sends_all() -> None:
    """What is wanted of the blocks behind it is not its business."""
    async with lane_client() as client:
        inputs = StepInputs(hidden_states(3)).only_last(BlockRange(0, 4))

        output = await (await client.session()).step(inputs, position=0)

        assert client.server.steps[0].entries[0].flags == 0
        assert torch.equal(output.hidden, expected_output(inputs.hidden, BLOCKS))


@pytest.mark.parametrize("step_flags", [WANTS_PUSH, STEP_FLAGS])
async def test_a_server_may_send_all_the_same(step_flags: int) -> None:
    """One that does not know the flag is not sent it; another one may have it from elsewhere."""
    async with lane_client() as client:
        client.server.says(step_flags=step_flags)
        inputs = StepInputs(hidden_states(3)).only_last(BLOCKS)
        expected = expected_output(inputs.hidden, BLOCKS)

        def send_all(frame: OutputsFrame) -> OutputsFrame:
            entries = [entry._replace(position=0, num_tokens=3, flags=0) for entry in frame.entries]
            return OutputsFrame(entries, expected[0])

        client.server.transform = send_all

        output = await (await client.session()).step(inputs, position=0)

        assert torch.equal(output.hidden, expected)


@pytest.mark.parametrize(
    ("only_last", "changes"),
    [
        (False, {"position": 2, "num_tokens": 1, "flags": ONLY_LAST}),
        (True, {"flags": 0}),
        (True, {"position": 1}),
        (True, {"num_tokens": 2}),
        (True, {"num_tokens": 0}),
    ],
)
async def test_a_last_token_that_is_not_the_wanted_one_fails_the_session(
    only_last: bool, changes: dict[str, int]
) -> None:
    """Nobody has asked for it, or it is another one, or not one."""

    def spoil(frame: OutputsFrame) -> OutputsFrame:
        entry = frame.entries[0]._replace(**changes)
        return OutputsFrame([entry], frame.hidden[-1:].repeat(entry.num_tokens, 1))

    async with lane_client() as client:
        client.server.transform = spoil
        inputs = StepInputs(hidden_states(3), only_last_at=BLOCKS.end if only_last else None)

        with pytest.raises(PeerMisbehavedError, match="expected 1 rows of 3 tokens back"):
            await (await client.session()).step(inputs, position=0)


@pytest.mark.parametrize("changes", [{"version": 2}, {"hidden_size": 16}])
async def test_a_hello_that_does_not_fit_is_refused(changes: dict[str, object]) -> None:
    """And asked for again with the next session."""
    async with lane_client() as client:
        right = client.server.hello
        client.server.says(**changes)

        with pytest.raises(PeerMisbehavedError):
            await client.session()

        client.server.hello = right
        await step(await client.session(), one_token(1))


async def test_a_forgotten_peer_keeps_its_sessions_and_gets_a_new_lane() -> None:
    """The old lane ends with its last session."""
    async with lane_client() as client:
        old = await client.session()
        await step(old, one_token(1))

        client.lanes.forget(client.server.peer)

        await step(await client.session(), one_token(1))
        await step(old, one_token(1), position=1)
        assert len(client.server.node.pipes) == 2
        await old.close()
        await eventually(lambda: len(client.server.node.pipes) == 1)


async def test_opening_ahead_tells_how_much_of_a_prefix_is_cached() -> None:
    """The hashes travel with the opening; no step is needed for the answer."""
    async with lane_client() as client:
        client.server.cached_tokens = 8
        session = await client.session()

        assert await session.match_prefix(range(9)) == 8

        (opening,) = client.server.openings
        assert len(opening.prefix_hashes) == 2
        assert not client.server.steps


async def test_a_step_too_large_for_the_server_is_not_sent() -> None:
    """`max_step_tokens` says how much may be."""
    async with lane_client() as client:
        session = await client.session()

        with pytest.raises(PeerError):
            await step(session, hidden_states(session.max_step_tokens + 1))

        assert not client.server.steps


async def test_closing_lanes_fails_their_sessions_and_leaves_no_stream() -> None:
    """Nobody waits for what cannot come."""
    async with lane_client() as client:
        client.server.may_answer.clear()
        task = asyncio.create_task(step(await client.session(), one_token(1)))
        await eventually(lambda: len(client.server.steps) == 1)

        await client.lanes.close()

        (failure,) = await failures_of(task)
        assert isinstance(failure, PeerUnreachableError)
        assert not client.server.node.pipes


async def test_who_waits_for_a_lane_is_told_that_all_were_closed() -> None:
    """And so is everybody who comes later: there will be no other one."""
    async with lane_client() as client:
        client.server.may_greet.clear()
        opening = asyncio.create_task(client.session())
        await eventually(lambda: client.server.num_hellos == 1)

        await client.lanes.close()

        for session in (opening, client.session()):
            with pytest.raises(ModelClosedError):
                await session
        assert not client.server.node.pipes


async def test_a_lane_that_opens_while_all_are_closed_is_closed_as_well() -> None:
    """Though it has carried nothing yet."""
    async with lane_client() as client:
        opening = asyncio.create_task(client.session())
        while not client.server.node.pipes:  # noqa: ASYNC110  (the very next turn matters)
            await asyncio.sleep(0)

        await client.lanes.close()

        with pytest.raises(ModelClosedError):
            await opening
        await eventually(lambda: not client.server.node.pipes)


async def test_a_session_that_fails_makes_room_for_a_step_that_waits() -> None:
    """Though no answer comes that would."""
    async with lane_client() as client:
        client.server.says(max_frame_tokens=4, max_inflight_tokens=8)  # half of them for prefills
        client.server.refused = ["not_served"]
        refused, waiting = await client.sessions(2)
        client.server.transform = lambda frame: (
            None if frame.entries[0].session_id == refused.session_id else frame
        )

        first, second = await asyncio.gather(
            step(refused, hidden_states(4)),
            step(waiting, hidden_states(4)),
            return_exceptions=True,
        )

        assert isinstance(first, PeerRefusedError)
        assert isinstance(second, HopOutput)
