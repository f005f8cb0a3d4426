"""Gradients through real block servers equal those of transformers' own blocks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from swarm_client import DistributedLlamaForCausalLM
from swarm_client.errors import RequestTooLargeError
from swarm_protocol.identifiers import BlockRange
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.harness.local_layers import LocalLayers
from tests.integration.swarm_client.local_model import local_model
from tests.integration.swarm_client.test_sessions import Client, client_of

ALL = BlockRange(0, 4)
HALVES = ["0:2", "2:4"]
HIDDEN_SIZE = 64


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Iterator[DistributedLlamaForCausalLM]:
    with local_model(tiny_llama, HALVES) as distributed:
        yield distributed


def tensors(batch_size: int, num_tokens: int, num_prompts: int = 2) -> list[Tensor]:
    """Return hidden states, deep prompts of all blocks, and a gradient of the outputs."""
    generator = torch.Generator().manual_seed(num_tokens)
    hidden = (batch_size, num_tokens, HIDDEN_SIZE)
    shapes = (hidden, (len(ALL), batch_size, num_prompts, HIDDEN_SIZE), hidden)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def gradients(output: Tensor, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(output, inputs, grad))


def assert_close(actual: list[Tensor], expected: list[Tensor]) -> None:
    """float32: sums in another order, relative to the largest gradient of the tensor."""
    assert len(actual) == len(expected)
    for ours, local in zip(actual, expected, strict=True):
        scale = max(1.0, local.abs().max().item())
        torch.testing.assert_close(ours / scale, local / scale, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("blocks", ["0:4", "1:3", "2:3"])
def test_forward_and_backward_equal_transformers(
    tiny_llama: Path, model: DistributedLlamaForCausalLM, blocks: str
) -> None:
    """Hidden states, their gradients and those of deep prompts; of all blocks and of parts."""
    part = BlockRange.parse(blocks)
    hidden, prompts, grad = tensors(2, 9)
    inputs = [hidden.requires_grad_(), prompts[part.start : part.end].requires_grad_()]

    output = model.transformer.h[part.start : part.end](inputs[0], prompts=inputs[1])

    expected = LocalLayers(tiny_llama, part)(inputs[0], inputs[1])
    assert_close([output], [expected])
    assert_close(gradients(output, inputs, grad), gradients(expected, inputs, grad))


def test_rows_of_700_tokens_equal_the_unsplit_batch(
    tiny_llama: Path, model: DistributedLlamaForCausalLM
) -> None:
    """Conformance check 36: each row goes alone."""
    hidden, prompts, grad = tensors(3, 700)
    inputs = [hidden.requires_grad_(), prompts.requires_grad_()]

    output = model.transformer.h(inputs[0], prompts=inputs[1])

    expected = LocalLayers(tiny_llama, ALL)(inputs[0], inputs[1])
    assert_close([output], [expected])
    assert_close(gradients(output, inputs, grad), gradients(expected, inputs, grad))


def test_a_session_over_a_slice_keeps_only_its_blocks(
    tiny_llama: Path, model: DistributedLlamaForCausalLM
) -> None:
    """Token by token, written as `h[1:3]` each time; the rest of the model is not touched."""
    hidden, _, _ = tensors(1, 6)
    h = model.transformer.h

    with torch.no_grad(), h[1:3].inference_session(max_length=6) as session:
        outputs = [h[1:3](hidden[:, index : index + 1]) for index in range(6)]
        whole = h(hidden)

    assert session.blocks == BlockRange(1, 3)
    assert_close([torch.cat(outputs, 1)], [LocalLayers(tiny_llama, BlockRange(1, 3))(hidden)])
    assert_close([whole], [LocalLayers(tiny_llama, ALL)(hidden)])


def test_a_row_over_the_servers_limit_needs_no_gradients_or_is_refused(
    tiny_llama: Path, model: DistributedLlamaForCausalLM
) -> None:
    """Without gradients it is cut into chunks; with them it cannot be."""
    hidden, _, _ = tensors(1, 2100)

    output = model.transformer.h(hidden)

    assert_close([output], [LocalLayers(tiny_llama, ALL)(hidden)])
    with pytest.raises(RequestTooLargeError, match="2100 tokens"):
        model.transformer.h(hidden.requires_grad_())


async def test_streamed_passes_equal_transformers(tiny_llama: Path) -> None:
    """Prompts for every token of four blocks make a request of more than a mebibyte."""
    hidden, prompts, grad = tensors(1, 1000, num_prompts=1000)
    async with client_of(tiny_llama, ["0:4"]) as client:
        result = await client.model.run_forward(hidden, prompts)
        grads = await client.model.run_backward(result.tape, grad)

    inputs = [hidden.requires_grad_(), prompts.requires_grad_()]
    output = LocalLayers(tiny_llama, ALL)(*inputs)
    assert grads.prompts is not None
    assert_close([result.output], [output])
    assert_close([grads.hidden, grads.prompts], gradients(output, inputs, grad))


async def start_twins(client: Client, model: Path, *splits: str) -> list[BlockServer]:
    """Start servers that the client has not seen, so that it begins on the others."""
    settings = ServerSettings(model=str(model), dtype="float32", threads=1)
    return [
        await BlockServer.start(
            client.network.node(f"twin-{blocks}"), settings.model_copy(update={"blocks": blocks})
        )
        for blocks in splits
    ]


@pytest.mark.parametrize("lost", ["0:2", "2:4"])
@pytest.mark.parametrize("when", ["forward", "backward"])
async def test_a_killed_server_changes_nothing(tiny_llama: Path, lost: str, when: str) -> None:
    """Two others together run its blocks."""
    hidden, prompts, grad = tensors(2, 5)
    inputs = [hidden.requires_grad_(), prompts.requires_grad_()]
    async with client_of(tiny_llama, HALVES) as client:
        twins = await start_twins(client, tiny_llama, "0:1", "1:2", "2:3", "3:4")
        killed = client.servers[HALVES.index(lost)].peer_id
        cut = {when: lambda: client.network.cut(killed)}

        cut.get("forward", nothing)()
        result = await client.model.run_forward(hidden, prompts)
        cut.get("backward", nothing)()
        grads = await client.model.run_backward(result.tape, grad)

        output = LocalLayers(tiny_llama, ALL)(*inputs)
        assert grads.prompts is not None
        assert_close([result.output], [output])
        assert_close([grads.hidden, grads.prompts], gradients(output, inputs, grad))
        assert [view.peer for view in client.model.servers() if view.is_banned] == [killed]
        for twin in twins:
            await twin.close()


def nothing() -> None:
    """Cut nobody."""
