"""Forward and backward passes: what servers are asked, and what happens when they fail."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from swarm_client.errors import NoRouteError, RequestTooLargeError, ServerBusyError
from swarm_client.routing import Hop
from swarm_client.settings import RoutingSettings
from swarm_client.training.span_request import SpanRequest
from swarm_protocol.errors import (
    DeadlineExceededError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnreachableError,
)
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.methods import RPC_FORWARD_STREAM
from swarm_protocol.node import ServedStream
from swarm_protocol.records import ServerState
from tests.unit.swarm_client.scripted_swarm import eventually
from tests.unit.swarm_client.training.training_server import (
    SETTINGS,
    TrainingSwarm,
    assert_close,
    batch,
    local_blocks,
    local_gradients,
    training_swarm,
)

NO_RETRIES = RoutingSettings(max_retries=0)
ONCE_EACH = ["forward 0:2", "forward 2:4", "backward 2:4", "backward 0:2"]


def refuse(text: str) -> Callable[[str], None]:
    def raise_it(call: str) -> None:
        raise RuntimeError(text)

    return raise_it


async def gradients(
    swarm: TrainingSwarm, hidden: Tensor, prompts: Tensor | None = None
) -> list[Tensor]:
    """Return the gradients of the sum of the outputs, of hidden states and prompts."""
    result = await swarm.model.run_forward(hidden, prompts)
    assert_close(result.output, local_blocks(hidden, prompts))
    grads = await swarm.model.run_backward(result.tape, torch.ones_like(hidden))
    return [grad for grad in (grads.hidden, grads.prompts) if grad is not None]


def assert_gradients(actual: list[Tensor], hidden: Tensor, prompts: Tensor | None = None) -> None:
    expected = local_gradients(hidden, torch.ones_like(hidden), prompts)
    assert len(actual) == len(expected)
    for ours, local in zip(actual, expected, strict=True):
        assert_close(ours, local)


@pytest.mark.parametrize("splits", [["0:4"], ["0:2", "2:4"], ["0:3", "1:4"]])
async def test_gradients_equal_those_of_local_blocks(splits: list[str]) -> None:
    """Over one server, two, and one entered in mid-span."""
    hidden, prompts = batch(2, 5, num_prompts=3)
    async with training_swarm(splits) as swarm:
        assert_gradients(await gradients(swarm, hidden), hidden)
        assert_gradients(await gradients(swarm, hidden, prompts), hidden, prompts)


async def test_each_span_is_asked_once_in_each_direction() -> None:
    """Servers keep nothing, and the client sends back what it recorded."""
    async with training_swarm(["0:2", "2:4"]) as swarm:
        await gradients(swarm, batch(2, 5)[0])

        assert swarm.calls() == [
            ["forward 0:2", "backward 0:2"],
            ["forward 2:4", "backward 2:4"],
        ]


async def test_a_part_of_the_blocks_is_run_alone() -> None:
    """Prompts are counted from its first block."""
    hidden, prompts = batch(1, 4, num_prompts=2)
    part = BlockRange(1, 3)
    async with training_swarm(["0:2", "2:4"]) as swarm:
        result = await swarm.model.run_forward(hidden, prompts[1:3], part)
        grads = await swarm.model.run_backward(result.tape, torch.ones_like(hidden))

        assert swarm.servers[0].calls == ["forward 1:2", "backward 1:2"]
        expected = local_gradients(hidden, torch.ones_like(hidden), prompts[1:3], part)
        assert_close(grads.hidden, expected[0])
        assert_close(grads.prompts, expected[1])


async def test_one_prompt_for_all_rows_gets_a_gradient_for_each() -> None:
    """Summing is the caller's business, as it is with Petals."""
    hidden, prompts = batch(3, 4, num_prompts=2)
    async with training_swarm(["0:4"]) as swarm:
        result = await swarm.model.run_forward(hidden, prompts[:, :1])
        grads = await swarm.model.run_backward(result.tape, torch.ones_like(hidden))

        expanded = prompts[:, :1].expand(-1, 3, -1, -1)
        assert_close(grads.prompts, local_gradients(hidden, torch.ones(3, 4, 8), expanded)[1])


async def test_rows_of_700_tokens_go_one_by_one_and_equal_the_whole() -> None:
    """Conformance check 36."""
    hidden, prompts = batch(3, 700, num_prompts=2)
    async with training_swarm(["0:4"]) as swarm:
        assert_gradients(await gradients(swarm, hidden, prompts), hidden, prompts)

        assert swarm.servers[0].shapes == [(1, 700, 8)] * 6


async def test_at_most_the_allowed_number_of_sub_batches_is_under_way() -> None:
    """The rest waits here and not at the servers, where time would run out."""
    async with training_swarm(["0:4"], RoutingSettings(max_sub_batches=2)) as swarm:
        (server,) = swarm.servers
        server.may_answer.clear()
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            passing = tasks.create_task(swarm.model.run_forward(batch(5, 1000)[0]))
            while server.most_running < 2:  # noqa: ASYNC110 - a server has no event for it
                await asyncio.sleep(0.001)
            server.may_answer.set()

        assert len(passing.result().tape.sub_batches) == 5
        assert server.most_running == 2


@pytest.mark.parametrize(("num_tokens", "form"), [(32768, ""), (32769, "_stream")])
async def test_more_than_a_mebibyte_goes_as_a_stream(num_tokens: int, form: str) -> None:
    """Conformance check 15: 32768 tokens of 8 float32 values are exactly one."""
    hidden, _ = batch(1, num_tokens)
    async with training_swarm(["0:4"]) as swarm:
        result = await swarm.model.run_forward(hidden)

        assert swarm.servers[0].calls == [f"forward{form} 0:4"]
        assert_close(result.output, local_blocks(hidden))


async def test_a_tensor_of_several_parts_comes_through_both_ways() -> None:
    """9 MiB are three parts of at most 4 MiB."""
    hidden, _ = batch(1, 9 * 32768)
    async with training_swarm(["0:4"]) as swarm:
        assert_gradients(await gradients(swarm, hidden), hidden)

        assert swarm.servers[0].calls == ["forward_stream 0:4", "backward_stream 0:4"]


async def test_the_smaller_dtype_travels() -> None:
    """A bfloat16 server gets bfloat16: half the bytes, so no stream is needed."""
    hidden, _ = batch(1, 40000)
    async with training_swarm(["0:4"]) as swarm:
        swarm.servers[0].compute_in(torch.bfloat16)

        result = await swarm.model.run_forward(hidden)

        assert swarm.servers[0].calls == ["forward 0:4"]
        assert result.output.dtype == torch.bfloat16


@pytest.mark.parametrize("call", ["forward 0:2", "forward 2:4", "backward 2:4", "backward 0:2"])
async def test_a_killed_server_changes_nothing(call: str) -> None:
    """Another one runs the same blocks; nothing else is run again."""
    hidden, prompts = batch(2, 5, num_prompts=2)
    async with training_swarm(["0:2", "2:4", "0:2", "2:4"]) as swarm:
        swarm.kill_who_gets(call)

        assert_gradients(await gradients(swarm, hidden, prompts), hidden, prompts)

        assert len(swarm.banned()) == 1
        assert sorted(c for calls in swarm.calls() for c in calls) == sorted([*ONCE_EACH, call])


async def test_a_lost_span_is_run_again_only_as_far_as_its_gradients_need() -> None:
    """Two servers step in for one: the first runs forward again, the second need not."""
    hidden, _ = batch(2, 5)
    async with training_swarm(["0:1", "1:4"]) as swarm:
        result = await swarm.model.run_forward(hidden)
        swarm.network.cut(swarm.servers[1].peer)
        first, second = await swarm.add("1:3", "3:4")

        grads = await swarm.model.run_backward(result.tape, torch.ones_like(hidden))

        assert_gradients([grads.hidden], hidden)
        assert first.calls == ["forward 1:3", "backward 1:3"]
        assert second.calls == ["backward 3:4"]
        assert swarm.servers[0].calls == ["forward 0:1", "backward 0:1"]


async def test_a_detour_may_be_lost_as_well() -> None:
    """Once while it runs forward again, and once in its own backward pass."""
    hidden, prompts = batch(1, 3, num_prompts=1)
    async with training_swarm(["0:4"]) as swarm:
        result = await swarm.model.run_forward(hidden, prompts)
        lost = swarm.servers[0]
        swarm.network.cut(lost.peer)
        await swarm.add("0:2", "0:2", "0:2", "2:4")
        swarm.kill_who_gets("forward 0:2", "backward 0:2")

        grads = await swarm.model.run_backward(result.tape, torch.ones_like(hidden))

        assert grads.prompts is not None
        assert_gradients([grads.hidden, grads.prompts], hidden, prompts)
        assert len(swarm.banned()) == 3


async def test_a_tape_may_be_used_again() -> None:
    """As with torch's `retain_graph`."""
    hidden, _ = batch(1, 3)
    async with training_swarm(["0:2", "2:4"]) as swarm:
        result = await swarm.model.run_forward(hidden)
        first = await swarm.model.run_backward(result.tape, torch.ones_like(hidden))
        again = await swarm.model.run_backward(result.tape, torch.ones_like(hidden))

        assert first.hidden.equal(again.hidden)


async def test_the_only_server_of_some_blocks_is_tried_again() -> None:
    """It may have been restarted; nobody waits for its ban to end."""
    hidden, _ = batch(1, 3)
    async with training_swarm(["0:4"]) as swarm:
        failures = ["once", "twice"]

        def fail(call: str) -> None:
            if failures:
                raise RuntimeError(failures.pop())

        swarm.servers[0].before = fail

        assert_close((await swarm.model.run_forward(hidden)).output, local_blocks(hidden))


@pytest.mark.parametrize("num_dead", [4, 9])
async def test_servers_that_cannot_be_reached_use_up_no_detours(num_dead: int) -> None:
    """More of them than retries; their records are still there, and one lives."""
    hidden, _ = batch(1, 3)
    async with training_swarm(["0:4"]) as swarm:
        result = await swarm.model.run_forward(hidden)
        dead = await swarm.add(*["0:4"] * num_dead)
        for server in (swarm.servers[0], *dead[1:]):
            swarm.network.cut(server.peer)

        grads = await swarm.model.run_backward(result.tape, torch.ones_like(hidden))

        assert_gradients([grads.hidden], hidden)


async def test_blocks_whose_servers_were_all_killed_are_waited_for() -> None:
    """Though their records say that they are there."""
    hidden, _ = batch(1, 3)
    settings = SETTINGS.model_copy(update={"wait_for_blocks_s": 5})
    async with training_swarm(["0:4", "0:4"], settings) as swarm:
        result = await swarm.model.run_forward(hidden)
        for server in swarm.servers:
            swarm.network.cut(server.peer)

        passing = asyncio.create_task(
            swarm.model.run_backward(result.tape, torch.ones_like(hidden))
        )
        await eventually(lambda: len(swarm.banned()) == 2)
        (joined,) = await swarm.add("0:4")

        assert_gradients([(await passing).hidden], hidden)
        assert joined.calls == ["backward 0:4"]


async def test_detours_are_bounded() -> None:
    """The last failure is the answer, and says whose it is."""
    async with training_swarm(["0:4", "0:4"]) as swarm:
        for server in swarm.servers:
            server.before = refuse("no such luck")

        with pytest.raises(PeerRefusedError, match="no such luck") as refused:
            await swarm.model.run_forward(batch(1, 3)[0])

        assert refused.value.peer in ("s0", "s1")
        assert sum(map(len, swarm.calls())) == 1 + SETTINGS.max_retries


async def test_blocks_that_nobody_serves_are_named() -> None:
    """After looking the servers up again."""
    async with training_swarm(["0:2"]) as swarm:
        with pytest.raises(NoRouteError, match="2:4"):
            await swarm.model.run_forward(batch(1, 3)[0])

        await swarm.add("2:4")

        assert (await swarm.model.run_forward(batch(1, 3)[0])).output.shape == (1, 3, 8)


async def test_blocks_whose_last_server_has_left_are_named() -> None:
    """The failure that made us look is chained."""
    async with training_swarm(["0:2", "2:4"]) as swarm:
        result = await swarm.model.run_forward(batch(1, 3)[0])
        await swarm.servers[1].announce(ServerState.OFFLINE)
        swarm.network.cut(swarm.servers[1].peer)

        with pytest.raises(NoRouteError, match="2:4") as refused:
            await swarm.model.run_backward(result.tape, torch.ones(1, 3, 8))

        assert isinstance(refused.value.__cause__, PeerUnreachableError)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda tensors: [tensors[0][:, 1:]], r"peer s0: expected tensors \[\(1, 3, 8\)\], got"),
        (lambda tensors: tensors * 2, "got"),
        (lambda tensors: [], "got"),
        (lambda tensors: [tensors[0].long()], "floating-point tensors, got .*int64"),
        (lambda tensors: [tensors[0] * torch.nan], "not finite"),
    ],
)
async def test_a_wrong_reply_says_what_was_expected_and_from_whom(
    change: Callable[[list[Tensor]], list[Tensor]], text: str
) -> None:
    """Shape, number, dtype, and values that are none."""
    async with training_swarm(["0:4"], NO_RETRIES) as swarm:
        swarm.servers[0].change = change

        with pytest.raises(PeerMisbehavedError, match=text):
            await swarm.model.run_forward(batch(1, 3)[0])

        assert swarm.banned() == ["s0"]


async def test_a_wrong_reply_in_parts_is_refused_before_it_fills_the_memory() -> None:
    """A stream has the bound of what was asked for."""
    async with training_swarm(["0:4"], NO_RETRIES) as swarm:
        swarm.servers[0].change = lambda tensors: [tensors[0].repeat(3, 1, 1)]

        with pytest.raises(PeerMisbehavedError, match="over the limit"):
            await swarm.model.run_forward(batch(1, 40000)[0])


async def test_infinite_gradients_pass() -> None:
    """Those of a scaled loss may be; whoever scaled it looks for them."""
    hidden, _ = batch(1, 3)
    async with training_swarm(["0:4"]) as swarm:
        result = await swarm.model.run_forward(hidden)

        grads = await swarm.model.run_backward(result.tape, torch.full_like(hidden, torch.inf))

        assert not grads.hidden.isfinite().all()
        assert swarm.banned() == []


async def test_a_server_of_another_hidden_size_is_named() -> None:
    """Somebody published the wrong prefix."""
    async with training_swarm(["0:4"], NO_RETRIES) as swarm:
        server = swarm.servers[0]
        server.description = replace(server.description, hidden_size=9)

        with pytest.raises(PeerMisbehavedError, match=r"peer s0: .*hidden size 8, got 9"):
            await swarm.model.run_forward(batch(1, 3)[0])


async def test_a_row_too_long_for_a_server_is_not_its_fault() -> None:
    """Nobody is banned, and nobody else is asked."""
    async with training_swarm(["0:4", "0:4"]) as swarm:
        for server in swarm.servers:
            server.before = refuse("Task size greater than max_batch_size (2048)")

        with pytest.raises(RequestTooLargeError, match="no request of 3000 tokens"):
            await swarm.model.run_forward(batch(1, 3000)[0])

        assert swarm.banned() == []


async def test_a_busy_server_is_not_to_blame() -> None:
    """Another one is asked, and after a while the same again."""
    async with training_swarm(["0:4"]) as swarm:
        swarm.servers[0].before = refuse("this server has its maximum of 32 requests")

        with pytest.raises(ServerBusyError, match=r"s0 of blocks 0:4"):
            await swarm.model.run_forward(batch(1, 3)[0])

        assert len(swarm.servers[0].calls) == 1 + SETTINGS.max_retries
        assert swarm.banned() == []


async def test_a_silent_server_is_given_up() -> None:
    """Every wait has a deadline."""
    settings = RoutingSettings(request_timeout_s=0.05, max_retries=0)
    async with training_swarm(["0:4"], settings) as swarm:
        swarm.servers[0].is_silent = True

        with pytest.raises(DeadlineExceededError, match=r"peer s0: .*0:4 within 0\.05 s"):
            await swarm.model.run_forward(batch(1, 3)[0])


async def test_a_refusal_comes_through_while_parts_are_still_sent() -> None:
    """More parts than the transport takes in advance; the server reads only the first."""
    async with training_swarm(["0:4"], NO_RETRIES) as swarm:

        async def refuse_at_once(stream: ServedStream) -> None:
            await stream.receive()
            raise RuntimeError("not today")

        await swarm.servers[0].node.serve_stream(RPC_FORWARD_STREAM, refuse_at_once)

        with pytest.raises(PeerRefusedError, match="not today"):
            await swarm.model.run_forward(torch.zeros(1, 2**21, 8))


@pytest.mark.parametrize(
    ("hidden", "prompts", "text"),
    [
        (torch.zeros(2, 3, 9), None, r"\[batch, num_tokens, 8\], got \[2, 3, 9\]"),
        (torch.zeros(2, 3, 8).long(), None, "floating-point, got"),
        (torch.full((2, 3, 8), torch.nan), None, "finite"),
        (torch.zeros(2, 3, 8), torch.zeros(3, 2, 1, 8), r"\[4, 1 or 2, 1 to 3, 8\], got"),
        (torch.zeros(2, 3, 8), torch.zeros(4, 2, 4, 8), "got"),
    ],
)
async def test_what_does_not_fit_is_refused_before_anything_is_sent(
    hidden: Tensor, prompts: Tensor | None, text: str
) -> None:
    """No server is asked, let alone blamed."""
    async with training_swarm(["0:4"]) as swarm:
        with pytest.raises(ValueError, match=text):
            await swarm.model.run_forward(hidden, prompts)

        assert swarm.calls() == [[]]


async def test_gradients_of_another_shape_are_refused() -> None:
    """They belong to another pass."""
    async with training_swarm(["0:4"]) as swarm:
        result = await swarm.model.run_forward(batch(1, 3)[0])

        with pytest.raises(ValueError, match="expected gradients"):
            await swarm.model.run_backward(result.tape, torch.ones(1, 4, 8))


async def test_a_cancelled_pass_leaves_no_stream_open() -> None:
    """The caller is gone, and so are its requests."""
    async with training_swarm(["0:4"]) as swarm:
        entered = asyncio.Event()

        async def never(stream: ServedStream) -> None:
            entered.set()
            await asyncio.Event().wait()

        await swarm.servers[0].node.serve_stream(RPC_FORWARD_STREAM, never)
        task = asyncio.create_task(swarm.model.run_forward(batch(1, 40000)[0]))
        await entered.wait()

        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        await eventually(lambda: not swarm.servers[0].node.pipes)


async def test_a_request_that_is_cancelled_again_and_again_leaves_no_stream_open() -> None:
    """Also while it waits for the end of its own sending."""
    async with training_swarm(["0:4"]) as swarm:
        entered = asyncio.Event()

        async def never(stream: ServedStream) -> None:
            entered.set()
            await asyncio.Event().wait()

        node = swarm.servers[0].node
        await node.serve_stream(RPC_FORWARD_STREAM, never)
        hop = Hop(node.peer_id, BlockRange(0, 4))
        request = SpanRequest(hop, "m", [batch(1, 40000)[0]], torch.float32, None)
        sending = request.send_in_parts(node, RPC_FORWARD_STREAM, max_reply_bytes=1)
        task = asyncio.create_task(sending)
        await entered.wait()

        while not task.done():
            task.cancel()
            await asyncio.sleep(0)

        await eventually(lambda: not node.pipes)
