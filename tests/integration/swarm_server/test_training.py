"""Forward and backward requests, unary and streamed (PETALS_PROTOCOL §8)."""

import asyncio

import pytest
import torch
from torch import Tensor

from swarm_protocol.argument_packing import structure_of
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.metadata import TrainingMetadata
from swarm_protocol.methods import RPC_BACKWARD, RPC_FORWARD
from swarm_protocol.tensor_codec import absent_prompts
from tests.integration.swarm_server.raw_session import RawSession
from tests.integration.swarm_server.raw_training import (
    call,
    random_tensor,
    run_backward,
    run_forward,
)
from tests.integration.swarm_server.tiny_swarm import Reference, Swarm

TOLERANCE = 1e-5  # of the largest value: float32, summed in another order than transformers does


def assert_equal(got: Tensor, expected: Tensor) -> None:
    """Two tensors are the same up to the order of summing."""
    atol = TOLERANCE * float(expected.abs().max())
    torch.testing.assert_close(got, expected, atol=atol, rtol=0)


def local_gradients(
    reference: Reference, hidden: Tensor, gradient: Tensor, prompts: Tensor | None = None
) -> list[Tensor]:
    """Return what autograd says through transformers' layers: of inputs and of prompts."""
    leaves = [hidden.clone().requires_grad_()]
    if prompts is not None:
        leaves.append(prompts.clone().requires_grad_())
    outputs = reference.train(leaves[0], leaves[1] if prompts is not None else None)
    return list(torch.autograd.grad(outputs, leaves, gradient))


@pytest.mark.parametrize("streams", [False, True])
async def test_forward_of_a_chain_equals_transformers(
    swarm: Swarm, reference: Reference, streams: bool
) -> None:
    """Unary and streamed; no KV memory is taken."""
    hidden = random_tensor(3, 9, 64)

    middle = await run_forward(swarm.caller, swarm.servers[0], hidden, streams=streams)
    outputs = await run_forward(swarm.caller, swarm.servers[1], middle, streams=streams)

    assert_equal(outputs, reference.run(hidden))
    swarm.assert_memory_is_back()


@pytest.mark.parametrize("streams", [False, True])
async def test_backward_of_a_chain_equals_autograd(
    swarm: Swarm, reference: Reference, streams: bool
) -> None:
    """Gradients of the inputs, through both servers."""
    first, second = swarm.servers
    hidden, gradient = random_tensor(2, 7, 64), random_tensor(2, 7, 64, seed=1)
    middle = await run_forward(swarm.caller, first, hidden)

    (of_middle,) = await run_backward(swarm.caller, second, middle, gradient, streams=streams)
    (of_hidden,) = await run_backward(swarm.caller, first, hidden, of_middle, streams=streams)

    (expected,) = local_gradients(reference, hidden, gradient)
    assert_equal(of_hidden, expected)


async def test_gradients_of_deep_prompts_equal_autograd(swarm: Swarm, reference: Reference) -> None:
    """They are [num_blocks, batch, num_prompt_tokens, hidden_size], in the order of the blocks."""
    first, second = swarm.servers
    hidden, gradient = random_tensor(2, 7, 64), random_tensor(2, 7, 64, seed=1)
    prompts = random_tensor(4, 2, 3, 64, seed=2)
    middle = await run_forward(swarm.caller, first, hidden, prompts[:2])

    of_middle, of_last = await run_backward(
        swarm.caller, second, middle, gradient, prompts[2:], streams=True
    )
    of_hidden, of_first = await run_backward(swarm.caller, first, hidden, of_middle, prompts[:2])

    expected = local_gradients(reference, hidden, gradient, prompts)
    got = [of_hidden, torch.cat([of_first, of_last])]
    for one, other in zip(got, expected, strict=True):
        assert_equal(one, other)


async def test_prompts_given_once_have_a_gradient_for_each_row(swarm: Swarm) -> None:
    """[n, 1, P, H] serves the whole batch; its gradient is [n, batch, P, H]."""
    server, hidden, gradient = swarm.servers[0], random_tensor(3, 4, 64), random_tensor(3, 4, 64)
    once = random_tensor(2, 1, 2, 64, seed=3)

    shared = await run_backward(swarm.caller, server, hidden, gradient, once)
    apart = await run_backward(swarm.caller, server, hidden, gradient, once.repeat(1, 3, 1, 1))

    assert shared[1].shape == (2, 3, 2, 64)
    assert torch.equal(shared[0], apart[0])
    assert torch.equal(shared[1], apart[1])


async def test_the_structure_of_training_arguments_may_be_absent_or_nil(swarm: Swarm) -> None:
    """Positional tensors, a structure, no prompts at all, and nil prompts agree."""
    hidden, gradient = random_tensor(1, 3, 64), random_tensor(1, 3, 64, seed=1)
    given, absent = [hidden, gradient], absent_prompts()
    requests: list[tuple[list[Tensor], object]] = [
        ([*given, absent], None),
        (given, None),
        ([*given, absent], structure_of(3)),
        (given, ((b"__T0", b"__T1", None), {})),
        ([gradient, hidden], ((b"__T1", b"__T0"), {})),
    ]

    replies = [
        await call(
            *(swarm.caller, swarm.servers[0], RPC_BACKWARD, tensors),
            metadata=TrainingMetadata(args_structure=structure),
        )
        for tensors, structure in requests
    ]

    assert all(torch.equal(reply[0], replies[0][0]) for reply in replies)


async def test_output_compression_chooses_the_codec_of_each_reply(swarm: Swarm) -> None:
    """Codec 2 makes the reply FLOAT16: the values are those of half precision."""
    server, hidden = swarm.servers[0], random_tensor(1, 3, 64)
    exact = await run_forward(swarm.caller, server, hidden)

    (rounded,) = await call(
        *(swarm.caller, server, RPC_FORWARD, [hidden]),
        metadata=TrainingMetadata(output_compression=(2,)),
    )

    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, exact.half().float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
async def test_training_replies_are_in_the_servers_dtype(swarm: Swarm, dtype: torch.dtype) -> None:
    """Whatever dtype the caller sends."""
    server, hidden = swarm.servers[0], random_tensor(1, 2, 64).to(dtype)

    output = await run_forward(swarm.caller, server, hidden)
    gradients = await run_backward(
        swarm.caller, server, hidden, hidden, random_tensor(2, 1, 1, 64).to(dtype)
    )

    assert {tensor.dtype for tensor in (output, *gradients)} == {torch.float32}


async def test_a_request_may_use_a_part_of_the_span(swarm: Swarm) -> None:
    """Block by block gives what the whole span gives."""
    server, hidden = swarm.servers[1], random_tensor(2, 5, 64)

    middle = await run_forward(swarm.caller, server, hidden, blocks=BlockRange(2, 3))
    outputs = await run_forward(swarm.caller, server, middle, blocks=BlockRange(3, 4))

    assert torch.equal(outputs, await run_forward(swarm.caller, server, hidden))


async def test_requests_at_once_and_a_session_give_what_they_give_alone(swarm: Swarm) -> None:
    """Twelve forward and backward requests, and a session that steps between them."""
    server = swarm.servers[0]
    inputs = [random_tensor(2, 3 + index, 64, seed=index) for index in range(6)]
    alone = [await run_backward(swarm.caller, server, hidden, hidden) for hidden in inputs]
    session = await RawSession.start(swarm.caller, server)

    forward = asyncio.gather(*(run_forward(swarm.caller, server, hidden) for hidden in inputs))
    step = asyncio.ensure_future(session.step(inputs[0]))
    together = await asyncio.gather(
        *(run_backward(swarm.caller, server, hidden, hidden) for hidden in inputs)
    )
    await forward
    await step

    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one[0], other[0])
    first = inputs[0][:, :1]
    again = await session.step(first, start_from_position=0)
    assert_equal(again, await run_forward(swarm.caller, server, first))


async def test_rows_apart_give_the_gradients_of_the_batch(swarm: Swarm) -> None:
    """Batch 3 of 600 tokens is within the limit; split into rows of 1, gradients are the same."""
    server = swarm.servers[0]
    hidden, gradient = random_tensor(3, 600, 64), random_tensor(3, 600, 64, seed=1)
    (whole,) = await run_backward(swarm.caller, server, hidden, gradient, streams=True)

    rows = [
        (await run_backward(swarm.caller, server, hidden[i : i + 1], gradient[i : i + 1]))[0]
        for i in range(3)
    ]

    assert_equal(torch.cat(rows), whole)
