"""Remote blocks as a PyTorch module."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from swarm_client.remote import RemoteSequential
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import PeerMisbehavedError
from swarm_protocol.identifiers import BlockRange
from tests.unit.swarm_client.training.training_server import (
    TrainingServer,
    assert_close,
    batch,
    blocking_swarm,
    local_blocks,
    local_gradients,
)


@pytest.fixture
def swarm() -> Iterator[tuple[RemoteSequential, list[TrainingServer]]]:
    with blocking_swarm(["0:2", "2:4"]) as (model, servers):
        yield RemoteSequential(model), servers


@pytest.fixture
def h(swarm: tuple[RemoteSequential, list[TrainingServer]]) -> RemoteSequential:
    return swarm[0]


@pytest.fixture
def servers(swarm: tuple[RemoteSequential, list[TrainingServer]]) -> list[TrainingServer]:
    return swarm[1]


def test_parts_are_printed_with_the_uids_of_their_blocks(h: RemoteSequential) -> None:
    """The first and the last, as Petals prints them."""
    assert repr(h) == "RemoteSequential(modules=test.0..test.3)"
    assert repr(h[1]) == "RemoteSequential(modules=test.1)"
    assert repr(h[2:2]) == "RemoteSequential(modules=)"


@pytest.mark.parametrize(
    "part",
    [slice(0, 2), slice(None), slice(-3, -1), slice(2, 99), slice(3, 1), slice(4, 9)],
)
def test_slices_follow_the_rules_of_lists(h: RemoteSequential, part: slice) -> None:
    """Open, negative, beyond the ends, and empty."""
    wanted = list(range(4))[part]

    assert [repr(block) for block in h[part]] == [repr(h[index]) for index in wanted]
    assert len(h[part]) == len(wanted)


def test_a_slice_of_a_slice_counts_from_its_own_start(h: RemoteSequential) -> None:
    """As that of a list."""
    assert repr(h[1:][1:2]) == repr(h[2])
    assert repr(h[1:3][-1]) == repr(h[2])


def test_an_index_gives_a_part_of_one_block(h: RemoteSequential) -> None:
    """From either end."""
    assert repr(h[-1]) == repr(h[3])
    assert [repr(block) for block in h] == [repr(h[index]) for index in range(4)]


@pytest.mark.parametrize("index", [4, -5])
def test_an_index_beyond_the_ends_is_refused(h: RemoteSequential, index: int) -> None:
    """So that loops over a module end."""
    with pytest.raises(IndexError, match=f"4 blocks, got {index}"):
        h[index]


def test_a_slice_with_a_step_is_refused(h: RemoteSequential) -> None:
    """Servers run consecutive blocks."""
    with pytest.raises(ValueError, match="steps of 1, got 2"):
        h[::2]


def test_a_part_runs_its_blocks_only(h: RemoteSequential, servers: list[TrainingServer]) -> None:
    """Also when there is nothing to differentiate."""
    hidden, _ = batch(2, 3)

    assert_close(h[1:3](hidden), local_blocks(hidden, blocks=BlockRange(1, 3)))

    assert [server.calls for server in servers] == [["forward 1:2"], ["forward 2:3"]]


def test_no_blocks_change_nothing(h: RemoteSequential) -> None:
    """As an empty `nn.Sequential`."""
    hidden, _ = batch(2, 3)

    assert h[2:2](hidden) is hidden


def test_it_has_no_parameters(h: RemoteSequential) -> None:
    """The weights are the servers'."""
    assert list(h.parameters()) == []


def test_gradients_equal_those_of_local_blocks(h: RemoteSequential) -> None:
    """Of hidden states and of deep prompts."""
    hidden, prompts = batch(2, 5, num_prompts=2)
    hidden.requires_grad_()
    prompts.requires_grad_()
    weights = torch.linspace(-1, 1, 80).reshape(2, 5, 8)

    h(hidden, prompts=prompts).backward(weights)

    of_hidden, of_prompts = local_gradients(hidden, weights, prompts)
    assert_close(hidden.grad, of_hidden)
    assert_close(prompts.grad, of_prompts)


def test_one_prompt_for_all_rows_gets_the_sum_of_their_gradients(h: RemoteSequential) -> None:
    """Its shape is that of the parameter."""
    hidden, prompts = batch(3, 4, num_prompts=2)
    shared = prompts[:, :1].clone().requires_grad_()

    h(hidden, prompts=shared).sum().backward()

    expected = local_gradients(hidden, torch.ones(3, 4, 8), shared.expand(-1, 3, -1, -1))[1]
    assert_close(shared.grad, expected.sum(1, keepdim=True))


def test_gradcheck_passes(swarm: tuple[RemoteSequential, list[TrainingServer]]) -> None:
    """In float64, which these servers compute in; numerical and analytical gradients agree."""
    h, servers = swarm
    for server in servers:
        server.compute_in(torch.float64)
    hidden, prompts = (tensor.double().requires_grad_() for tensor in batch(1, 2, num_prompts=1))

    assert torch.autograd.gradcheck(lambda x, p: h(x, prompts=p), (hidden, prompts), nondet_tol=0)


def test_local_layers_between_parts_are_trained(h: RemoteSequential) -> None:
    """The notebook's classifier: gradients of an adapter equal those of a local twin."""
    torch.manual_seed(0)
    hidden, _ = batch(2, 3)
    adapter = nn.Linear(8, 8)

    h[2:](adapter(h[:2](hidden))).sum().backward()

    ours = [parameter.grad for parameter in adapter.parameters()]
    halfway = local_blocks(hidden, blocks=BlockRange(0, 2))
    loss = local_blocks(adapter(halfway), blocks=BlockRange(2, 4)).sum()
    expected = torch.autograd.grad(loss, list(adapter.parameters()))
    for grad, local in zip(ours, expected, strict=True):
        assert_close(grad, local)


def test_several_threads_may_train_at_once(h: RemoteSequential) -> None:
    """Each waits for its own passes."""
    inputs = [batch(2, num_tokens)[0].requires_grad_() for num_tokens in range(1, 9)]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda hidden: h(hidden).sum().backward(), inputs))

    for hidden in inputs:
        assert_close(hidden.grad, local_gradients(hidden, torch.ones_like(hidden))[0])


def test_inputs_changed_in_place_before_the_backward_pass_are_noticed(h: RemoteSequential) -> None:
    """As torch does for its own layers; wrong gradients would go unseen."""
    hidden = batch(2, 3)[0].requires_grad_().clone()
    output = h(hidden)
    hidden.add_(1)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_a_second_backward_pass_needs_the_graph_retained(h: RemoteSequential) -> None:
    """As torch has it; and gradients of gradients are refused."""
    hidden = batch(1, 2)[0].requires_grad_()
    loss = h(hidden).sum()
    loss.backward(retain_graph=True)
    loss.backward()

    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_the_result_has_the_dtype_of_the_inputs(h: RemoteSequential) -> None:
    """Whatever the servers compute in; so have gradients."""
    hidden = batch(1, 2)[0].to(torch.bfloat16).requires_grad_()

    output = h(hidden)
    output.sum().backward()

    assert output.dtype == torch.bfloat16
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16


def test_without_gradients_nothing_is_recorded(h: RemoteSequential) -> None:
    """Under `no_grad`, and of inputs that want none."""
    hidden, _ = batch(1, 2)

    assert h(hidden).grad_fn is None
    with torch.no_grad():
        assert h(hidden.requires_grad_()).grad_fn is None


@pytest.mark.parametrize("shape", [(), (8,), (2, 3, 9), (0, 3, 8), (2, 0, 8)])
def test_hidden_states_of_another_shape_are_refused(
    h: RemoteSequential, shape: tuple[int, ...]
) -> None:
    """It says what was expected; even where there is no block to run."""
    for part in (h, h[2:2]):
        with pytest.raises(ValueError, match=r"\[batch, num_tokens, 8\], got"):
            part(torch.zeros(shape))


@pytest.mark.parametrize("wish", [{"hypo_ids": torch.tensor([1, 0])}, {"only_last": True}])
def test_wishes_of_sessions_are_refused_outside_of_one(
    h: RemoteSequential, wish: dict[str, Any]
) -> None:
    """There is nothing to reorder, and all outputs are computed."""
    with pytest.raises(ValueError, match="there is none"):
        h(batch(2, 2)[0], **wish)


def test_an_error_of_a_server_reaches_the_caller_of_backward() -> None:
    """It is the typed one, not torch's."""
    with blocking_swarm(["0:4"], RoutingSettings(max_retries=0)) as (model, servers):
        hidden = batch(1, 2)[0].requires_grad_()
        loss = RemoteSequential(model)(hidden).sum()
        servers[0].change = lambda tensors: [tensors[0][:, :1]]

        with pytest.raises(PeerMisbehavedError, match="peer s0: expected"):
            loss.backward()
