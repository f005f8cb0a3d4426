"""Sessions that share one stream: opened, stepped, rolled back, cancelled, ended."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import torch

from swarm_protocol.dialect import (
    DRAINING_CODE,
    NO_SESSION,
    ONLY_LAST,
    STEP_FLAGS,
    StepEntry,
    StepExtras,
    encode_cancel,
    encode_close,
    encode_open,
    encode_opened,
    hash_prefixes,
)
from swarm_protocol.dialect.openings import Opened
from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_server.errors import SessionExpiredError
from swarm_server.handlers.dialect import LaneLimits
from tests.unit.swarm_server.engine.serving.running_sums import BLOCKS, tokens
from tests.unit.swarm_server.handlers.dialect.lane_bench import (
    LIMITS,
    LaneBench,
    RawLane,
    lane_server,
    opening,
)


@pytest.fixture
async def server() -> AsyncIterator[LaneBench]:
    async with lane_server() as bench:
        yield bench


async def test_a_session_is_opened_stepped_and_closed(server: LaneBench) -> None:
    """Its outputs come with step number, position and sizes; in the end its memory is back."""
    lane = await server.lane()

    await lane.open(opening(7))
    assert await lane.next_opened() == Opened(7, cached_tokens=0)
    await lane.step(7, 0, 0, 1.0, 2.0)
    entry, sums = await lane.next_output()
    assert (entry.session_id, entry.step, entry.position) == (7, 0, 0)
    assert (entry.num_rows, entry.num_tokens, entry.batch_rows) == (1, 2, 1)
    assert sums == [1, 3]
    await lane.step(7, 1, 2, 4.0)
    assert (await lane.next_output())[1] == [7]
    await lane.stream.send(encode_close([7]))

    await server.assert_all_is_free()


async def test_steps_may_come_before_their_session_is_open(server: LaneBench) -> None:
    """So that a client need not wait for the server's word."""
    lane = await server.lane()

    await lane.open(opening(1))
    await lane.step(1, 0, 0, 5.0)

    assert (await lane.next_output())[1] == [5]


async def test_steps_of_one_frame_are_computed_and_answered_together(server: LaneBench) -> None:
    """One batch, and one frame with all of its outputs."""
    lane = await server.lane()
    await lane.open(*(opening(n) for n in range(4)))
    await lane.next_opened()
    lane.num_frames = 0

    await lane.send([StepEntry(n, 0, 0, 1, 1) for n in range(4)], tokens(0.0, 1.0, 2.0, 3.0)[0])
    outputs = [await lane.next_output() for _ in range(4)]

    assert [(entry.session_id, sums) for entry, sums in outputs] == [
        (n, [float(n)]) for n in range(4)
    ]
    assert {entry.batch_rows for entry, _ in outputs} == {4}
    assert lane.num_frames == 1


async def test_rows_are_reordered_by_hypo_ids(server: LaneBench) -> None:
    """Each row continues the one that it names."""
    lane = await server.lane()
    await lane.open(opening(1, num_rows=2))
    await lane.send([StepEntry(1, 0, 0, 2, 1)], torch.tensor([[1.0, 1.0], [10.0, 10.0]]))
    assert (await lane.next_output())[1] == [1, 10]

    extras = {0: StepExtras(hypo_ids=torch.tensor([1, 1]))}
    await lane.send([StepEntry(1, 1, 1, 2, 1)], torch.tensor([[2.0, 2.0], [3.0, 3.0]]), extras)

    assert (await lane.next_output())[1] == [12, 13]


async def test_a_position_below_the_end_rolls_back(server: LaneBench) -> None:
    """Tokens from there on are forgotten."""
    lane = await server.lane()
    await lane.open(opening(1))
    await lane.step(1, 0, 0, 1.0, 2.0, 3.0)
    await lane.next_output()

    await lane.step(1, 1, 1, 10.0)

    assert (await lane.next_output())[1] == [11]


async def test_steps_of_a_session_wait_for_those_before(server: LaneBench) -> None:
    """Two chunks of a prefill may be under way at once."""
    lane = await server.lane()
    await lane.open(opening(1))

    await lane.step(1, 0, 0, 1.0, 2.0)
    await lane.step(1, 1, 2, 3.0)

    assert (await lane.next_output())[1] == [1, 3]
    assert (await lane.next_output())[1] == [6]


async def test_a_step_number_counts_once(server: LaneBench) -> None:
    """A second copy gets no reply of its own."""
    lane = await server.lane()
    await lane.open(opening(1))
    await lane.step(1, 0, 0, 1.0)
    await lane.step(1, 0, 0, 1.0)

    await lane.step(1, 1, 1, 2.0)

    numbers = [(await lane.next_output())[0].step for _ in range(2)]
    assert numbers == [0, 1]


async def test_a_wrong_step_ends_its_session_and_no_other(server: LaneBench) -> None:
    """A position beyond the end; the neighbour in the same frame gets its outputs."""
    lane = await server.lane()
    await lane.open(opening(1), opening(2))

    await lane.send([StepEntry(1, 0, 9, 1, 1), StepEntry(2, 0, 0, 1, 1)], tokens(1.0, 2.0)[0])

    failure = await lane.next_failure()
    assert (failure.session_id, failure.code, failure.retryable) == (1, "invalid_position", False)
    assert failure.facts == {"wanted": 9, "position": 0}
    entry, sums = await lane.next_output()
    assert (entry.session_id, sums) == (2, [2])


async def test_of_a_step_that_says_so_only_outputs_of_the_last_token_come_back(
    server: LaneBench,
) -> None:
    """One of each row, at its position; a neighbour in the same batch gets all of its own."""
    lane = await server.lane()
    await lane.open(opening(1, num_rows=2), opening(2))

    entries = [StepEntry(1, 0, 0, 2, 3, ONLY_LAST), StepEntry(2, 0, 0, 1, 3)]
    hidden = torch.cat([tokens(1.0, 2.0, 3.0, num_rows=2).flatten(0, 1), tokens(4.0, 5.0, 6.0)[0]])
    await lane.send(entries, hidden)

    entry, sums = await lane.next_output()
    assert (entry.position, entry.num_rows, entry.num_tokens, entry.flags) == (2, 2, 1, ONLY_LAST)
    assert sums == [6, 306]
    entry, sums = await lane.next_output()
    assert (entry.position, entry.num_tokens, entry.flags) == (0, 3, 0)
    assert sums == [4, 9, 15]


@pytest.mark.parametrize("num_tokens", [0, 1])
async def test_a_step_of_a_token_or_none_is_answered_as_ever(
    server: LaneBench, num_tokens: int
) -> None:
    """There is nothing that could be left out."""
    lane = await server.lane()
    await lane.open(opening(1))

    entries = [StepEntry(1, 0, 0, 1, num_tokens, ONLY_LAST)]
    await lane.send(entries, torch.full((num_tokens, 2), 5.0))

    entry, sums = await lane.next_output()
    assert (entry.position, entry.num_tokens, entry.flags) == (0, num_tokens, 0)
    assert sums == [5.0] * num_tokens


async def test_flags_that_nobody_knows_mean_nothing(server: LaneBench) -> None:
    """So clients may have more of them."""
    lane = await server.lane()
    await lane.open(opening(1))

    await lane.step(1, 0, 0, 1.0, 2.0, flags=0xFFFF & ~STEP_FLAGS)

    assert (await lane.next_output())[1] == [1, 3]


async def test_values_that_are_not_finite_end_their_session_and_no_other(server: LaneBench) -> None:
    """The neighbour in the same batch gets the outputs that it would have got alone."""
    lane = await server.lane()
    await lane.open(opening(1), opening(2))

    poisoned = tokens(float("nan"), 2.0)[0]
    await lane.send([StepEntry(1, 0, 0, 1, 1), StepEntry(2, 0, 0, 1, 1)], poisoned)

    assert (await lane.next_failure()).code == "not_finite"
    assert (await lane.next_output())[1] == [2]


async def test_a_step_of_no_session_is_answered_by_a_failure(server: LaneBench) -> None:
    """The client is told which one it was."""
    lane = await server.lane()

    await lane.step(3, 0, 0, 1.0)

    failure = await lane.next_failure()
    assert (failure.session_id, failure.code) == (3, "invalid_step")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"blocks": BlockRange(0, 2)}, "not_served"),
        ({"adapter": "poet"}, "not_served"),
        ({"max_length": 101}, "kv_memory_exhausted"),
        ({"num_rows": 17}, "step_too_large"),
        ({"num_rows": 16, "max_length": 100}, "kv_memory_exhausted"),
    ],
)
async def test_an_opening_that_is_not_served_fails(
    server: LaneBench, changes: dict[str, object], code: str
) -> None:
    """Blocks, adapters, lengths and numbers of rows; other sessions go on."""
    lane = await server.lane()
    await lane.open(opening(1, **changes), opening(2))

    failure = await lane.next_failure()

    assert (failure.session_id, failure.code) == (1, code)
    assert (await lane.next_opened()).session_id == 2


async def test_rows_without_tokens_take_memory_as_well(server: LaneBench) -> None:
    """Else any number of rows could be had for nothing."""
    lane = await server.lane()

    await lane.open(opening(1, num_rows=16, max_length=0))
    await lane.next_opened()

    assert server.budget.num_slots - server.budget.slots_left == 16 * len(BLOCKS)


async def test_more_sessions_than_the_maximum_fail() -> None:
    """With a code that tells the client to try again."""
    async with lane_server(max_sessions=1) as server:
        lane = await server.lane()

        await lane.open(opening(1), opening(2))

        failure = await lane.next_failure()
        assert (failure.session_id, failure.code, failure.retryable) == (
            2,
            "too_many_sessions",
            True,
        )


async def test_a_session_id_in_use_ends_that_session(server: LaneBench) -> None:
    """Nobody could tell whose replies they are."""
    lane = await server.lane()
    await lane.open(opening(1))
    await lane.next_opened()

    await lane.open(opening(1, token=bytes(15) + b"x"))

    assert (await lane.next_failure()).code == "session_not_unique"
    await server.assert_all_is_free()


async def test_a_token_in_use_is_refused(server: LaneBench) -> None:
    """The session that has it goes on."""
    lane, other = await server.lane(), await server.lane()
    await lane.open(opening(1))
    await lane.next_opened()

    await other.open(opening(1))

    assert (await other.next_failure()).code == "session_not_unique"
    await lane.step(1, 0, 0, 1.0)
    await lane.next_output()


async def test_a_session_waits_for_memory_as_long_as_it_says(server: LaneBench) -> None:
    """It is opened when another one gives its memory back."""
    lane = await server.lane()
    await lane.open(opening(1, num_rows=2, max_length=100))
    await lane.next_opened()
    await lane.open(opening(2, wait_s=60.0))

    await lane.stream.send(encode_close([1]))

    assert (await lane.next_opened()).session_id == 2


async def test_a_session_that_waits_for_memory_may_be_closed(server: LaneBench) -> None:
    """It takes nothing then."""
    lane = await server.lane()
    await lane.open(opening(1, num_rows=2, max_length=100), opening(2, wait_s=60.0))
    await lane.next_opened()

    await lane.stream.send(encode_close([2, 1]))

    await server.assert_all_is_free()


async def test_an_id_that_is_used_again_may_be_closed_while_it_waits(server: LaneBench) -> None:
    """The end of its first session, which waited as well, says nothing about the second."""
    lane = await server.lane()
    await lane.open(opening(1, num_rows=2, max_length=100))
    await lane.next_opened()
    await lane.open(opening(2, wait_s=60.0))
    await lane.all_has_arrived()
    await lane.stream.send(encode_close([2]))
    await lane.open(opening(2, wait_s=60.0))
    await lane.all_has_arrived()

    await lane.stream.send(encode_close([2, 1]))

    await server.assert_all_is_free()


async def test_outputs_of_cancelled_steps_are_not_sent(server: LaneBench) -> None:
    """Neither of the running one, nor of one that waits; the session goes on."""
    lane = await server.lane()
    await lane.open(opening(1))
    await lane.next_opened()
    server.engine.span.go_on.clear()
    await lane.step(1, 0, 0, 1.0)
    await lane.step(1, 1, 1, 2.0)
    await server.engine.wait_started()
    await lane.stream.send(encode_cancel([1]))
    await lane.step(1, 2, 0, 5.0)
    await lane.open(opening(2))
    await lane.next_opened()  # all of that has arrived
    server.engine.span.go_on.set()

    entry, sums = await lane.next_output()

    assert (entry.step, sums) == (2, [5])


async def test_a_session_closed_in_the_middle_of_a_batch_gives_its_memory_back(
    server: LaneBench,
) -> None:
    """When the batch ends."""
    lane = await server.lane()
    await lane.open(opening(1))
    server.engine.span.go_on.clear()
    await lane.step(1, 0, 0, 1.0)
    await server.engine.wait_started()

    await lane.stream.send(encode_close([1]))
    server.engine.span.go_on.set()

    await server.assert_all_is_free()


@pytest.mark.parametrize("in_good_order", [True, False])
async def test_the_end_of_a_stream_ends_its_sessions(
    server: LaneBench, in_good_order: bool
) -> None:
    """Those that run, and those that wait for memory."""
    lane = await server.lane()
    await lane.open(opening(1, num_rows=2, max_length=100), opening(2, wait_s=60.0))
    server.engine.span.go_on.clear()
    await lane.send([StepEntry(1, 0, 0, 2, 1)], tokens(1.0, 2.0)[0])
    await server.engine.wait_started()

    if in_good_order:
        await lane.stream.finish()
    else:
        lane.stream.close()
    server.engine.span.go_on.set()

    await server.assert_all_is_free()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [(b"nonsense", "version"), (encode_opened([Opened(1, 0)]), "OPENED"), (b"", "no 0 bytes")],
)
async def test_what_is_no_request_ends_the_stream(
    server: LaneBench, frame: bytes, reason: str
) -> None:
    """With the reason, and with all of its sessions."""
    lane = await server.lane()
    await lane.open(opening(1))
    await lane.next_opened()

    await lane.stream.send(frame)

    with pytest.raises(PeerRefusedError, match=reason):
        await lane.receive()
    await server.assert_all_is_free()


async def test_a_frame_with_too_many_tokens_ends_the_stream(server: LaneBench) -> None:
    """The hello has said how many there may be."""
    lane = await server.lane()
    await lane.open(opening(1))
    await lane.next_opened()

    await lane.step(1, 0, 0, *[1.0] * 17)

    with pytest.raises(PeerRefusedError, match="17 tokens"):
        await lane.receive()


async def test_another_hidden_size_ends_the_stream(server: LaneBench) -> None:
    """It is another model's."""
    lane = await server.lane()

    await lane.send([StepEntry(1, 0, 0, 1, 1)], torch.zeros(1, 3))

    with pytest.raises(PeerRefusedError, match="2 values, got 3"):
        await lane.receive()


async def test_a_flood_is_not_read_before_there_is_room(server: LaneBench) -> None:
    """With 24 tokens in work nothing more is read, and all of it is answered in the end."""
    lane = await server.lane()
    await lane.open(opening(1, max_length=100))
    await lane.next_opened()
    server.engine.span.go_on.clear()
    flooding = asyncio.ensure_future(_flood(lane))
    await server.engine.wait_started()
    done, _ = await asyncio.wait({flooding}, timeout=0.1)
    assert not done
    server.engine.span.go_on.set()

    assert [(await lane.next_output())[0].step for _ in range(9)] == list(range(9))
    await flooding


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (replace(LIMITS, step_s=0.05), "waited for its next step"),
        (replace(LIMITS, session_s=0.05), "lasted"),
    ],
)
async def test_a_session_that_takes_too_long_is_ended(limits: LaneLimits, text: str) -> None:
    """That never steps, or that never ends; the stream goes on."""
    async with lane_server(limits=limits) as server:
        lane = await server.lane()
        await lane.open(opening(1))

        failure = await lane.next_failure()

        assert failure.code == "session_expired"
        assert text in failure.message
        await server.assert_all_is_free()


async def test_a_stream_whose_replies_nobody_takes_is_ended() -> None:
    """After the time that a step may take; its sessions end with it."""
    limits = replace(LIMITS, step_s=0.05)
    async with lane_server(limits=limits) as server:
        stream = Clogged(encode_open([opening(1)]))

        with pytest.raises(SessionExpiredError, match=r"taken a reply for 0\.05 seconds"):
            await server.handler.serve(stream)

        await server.assert_all_is_free()


class Clogged:
    """A served stream whose caller sends one frame, and then neither sends nor reads."""

    caller = PeerId("caller")
    has_room = False

    def __init__(self, frame: bytes) -> None:
        self._frames = [frame]

    def send_now(self, _frame: bytes) -> None:
        raise AssertionError("there is no room")

    async def receive(self) -> bytes | None:
        return self._frames.pop() if self._frames else await asyncio.Future()

    async def send(self, _frame: bytes) -> None:
        await asyncio.Future()


async def test_equal_prefixes_of_one_caller_are_computed_once(server: LaneBench) -> None:
    """The second session begins behind the whole pages of the first one's prompt."""
    lane = await server.lane()
    hashes = tuple(hash_prefixes(range(9), 4, b""))
    await lane.open(opening(1, prefix_hashes=hashes))
    await lane.step(1, 0, 0, *[float(n) for n in range(9)])
    await lane.next_output()

    await lane.open(opening(2, prefix_hashes=hashes))

    assert [await lane.next_opened() for _ in range(2)] == [Opened(1, 0), Opened(2, 8)]
    await lane.step(2, 0, 8, 8.0)
    assert (await lane.next_output())[1] == [36]


async def test_a_draining_server_ends_streams_and_says_why(server: LaneBench) -> None:
    """`end_all` is for the end of the process."""
    lane = await server.lane()
    await lane.open(opening(1))
    await lane.next_opened()

    server.handler.end_all()

    with pytest.raises(PeerRefusedError, match="shutting down"):
        await lane.receive()
    await server.assert_all_is_free()


async def test_clients_hear_at_once_that_the_server_is_about_to_stop(server: LaneBench) -> None:
    """Sessions that are open go on; a client that comes later hears it, too."""
    lane = await server.lane()
    await lane.open(opening(1))
    await lane.next_opened()

    server.handler.start_draining()

    failure = await lane.next_failure()
    assert (failure.session_id, failure.code) == (NO_SESSION, DRAINING_CODE)
    await lane.step(1, 0, 0, 5.0)
    assert (await lane.next_output())[1] == [5]
    late = await server.lane()
    assert (await late.next_failure()).code == DRAINING_CODE


async def test_a_stream_that_has_all_in_work_keeps_no_other_out() -> None:
    """It is not read on while the server has enough; the sessions of another are served."""
    limits = replace(LIMITS, max_inflight_tokens=100, max_total_tokens=16)
    async with lane_server(limits=limits) as server:
        flooding, modest = await server.lane(), await server.lane()
        await flooding.open(opening(1, max_length=100))
        await flooding.next_opened()
        server.engine.span.go_on.clear()
        flood = asyncio.ensure_future(_flood(flooding))
        await server.engine.wait_started()
        done, _ = await asyncio.wait({flood}, timeout=0.1)
        assert not done

        await modest.open(opening(2))
        await modest.step(2, 0, 0, 5.0)
        await modest.all_has_arrived()
        server.engine.span.go_on.set()

        assert (await modest.next_output())[1] == [5]
        assert [(await flooding.next_output())[0].step for _ in range(9)] == list(range(9))
        await flood
    server.handler.check_integrity()


async def _flood(lane: RawLane) -> None:
    for number in range(9):
        await lane.step(1, number, number * 8, *[1.0] * 8)
