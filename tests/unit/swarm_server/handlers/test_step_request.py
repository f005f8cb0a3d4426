"""Checking the tensors of a step."""

from contextlib import suppress

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from swarm_protocol.argument_packing import structure_of
from swarm_protocol.errors import MalformedMessageError, SwarmError
from swarm_protocol.messages import ExpertRequest
from swarm_protocol.metadata import InferenceMetadata
from swarm_protocol.tensor_codec import absent_hypo_ids, absent_prompts, encode_tensor
from swarm_server.errors import InvalidStepError, StepTooLargeError
from swarm_server.handlers.step_request import (
    StepLimits,
    StepRequest,
    parse_request,
    read_step,
)

LIMITS = StepLimits(hidden_size=4, num_blocks=3, max_batch_tokens=12)


def request(*tensors: Tensor) -> StepRequest:
    return StepRequest("m.0 m.1 m.2", InferenceMetadata(), tensors)


def test_absent_tensors_are_none() -> None:
    """Left out, or empty as stock clients send them."""
    hidden = torch.zeros(2, 3, 4)

    for tensors in ((hidden,), (hidden, absent_prompts(), absent_hypo_ids())):
        step = read_step(request(*tensors), None, LIMITS)
        assert step.hidden is hidden
        assert step.prompts is step.hypo_ids is None


def test_a_structure_and_plain_order_mean_the_same() -> None:
    """`args_structure` absent, given, and with nil for prompts; more tensors are ignored."""
    hidden, order = torch.zeros(2, 3, 4), torch.tensor([1, 0])
    plain = request(hidden, absent_prompts(), order, torch.zeros(1))
    without_prompts = request(hidden, order)
    nil: object = ((b"__T0", None, b"__T1"), {})

    for sent, structure in ((plain, None), (plain, structure_of(3)), (without_prompts, nil)):
        step = read_step(sent, structure, LIMITS)
        assert step.hidden is hidden
        assert step.prompts is None
        assert step.hypo_ids is order


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_any_float_dtype_is_taken(dtype: torch.dtype) -> None:
    """It is cast by the engine."""
    step = read_step(request(torch.zeros(1, 1, 4, dtype=dtype)), None, LIMITS)

    assert step.hidden.dtype == dtype


@pytest.mark.parametrize(
    "hidden",
    [
        torch.zeros(0),
        torch.zeros(()),
        torch.zeros(3, 4),
        torch.zeros(1, 1, 5),
        torch.zeros(0, 1, 4),
        torch.zeros(1, 1, 1, 4),
        torch.zeros(1, 1, 4, dtype=torch.int64),
        torch.zeros(1, 1, 4, dtype=torch.bool),
    ],
)
def test_hidden_states_of_a_wrong_kind_are_refused(hidden: Tensor) -> None:
    """Shape [batch, num_tokens, hidden_size] and a float dtype, or an error that says so."""
    with pytest.raises(InvalidStepError, match="hidden states must"):
        read_step(request(hidden), None, LIMITS)


@pytest.mark.parametrize("shape", [(3, 5), (13, 1), (13, 0)])
def test_a_step_over_the_task_limit_is_refused(shape: tuple[int, int]) -> None:
    """Rows times tokens; a step without tokens counts its rows."""
    with pytest.raises(StepTooLargeError, match=r"greater than max_batch_size \(12\)"):
        read_step(request(torch.zeros(*shape, 4)), None, LIMITS)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, 2, 4), "Received 2 prompts for 3 backends"),
        ((3, 3, 2, 4), "prompts must have shape"),
        ((3, 1, 4, 4), "prompts must have shape"),
        ((3, 1, 2, 5), "prompts must have shape"),
        ((3, 8), "prompts must have shape"),
    ],
)
def test_prompts_must_fit_the_step(shape: tuple[int, ...], message: str) -> None:
    """One per block, for one row or all, no longer than the chunk."""
    with pytest.raises(InvalidStepError, match=message):
        read_step(request(torch.zeros(2, 3, 4), torch.zeros(shape)), None, LIMITS)


def test_integer_prompts_are_refused() -> None:
    """They are added to hidden states."""
    prompts = torch.zeros(3, 1, 1, 4, dtype=torch.int64)

    with pytest.raises(InvalidStepError, match="prompts must be floating-point"):
        read_step(request(torch.zeros(2, 3, 4), prompts), None, LIMITS)


@pytest.mark.parametrize(
    ("hypo_ids", "message"),
    [
        (torch.tensor([0.0, 1.0]), "hypo ids must be int64, got torch.float32"),
        (torch.empty(0), "hypo ids must be int64"),
        (torch.tensor([0]), "hypo ids must have shape"),
        (torch.tensor([[0, 1]]), "hypo ids must have shape"),
        (torch.tensor([0, 2]), r"hypo ids must be in 0\.\.1"),
        (torch.tensor([-1, 0]), r"hypo ids must be in 0\.\.1"),
    ],
)
def test_hypo_ids_must_name_rows(hypo_ids: Tensor, message: str) -> None:
    """int64 even when empty, one per row, each an existing row."""
    sent = request(torch.zeros(2, 3, 4), absent_prompts(), hypo_ids)

    with pytest.raises(InvalidStepError, match=message):
        read_step(sent, None, LIMITS)


@pytest.mark.parametrize("structure", [((), {}), ((None,), {}), ((b"__T1",), {}), "x", ((7,), {})])
def test_a_structure_without_hidden_states_is_refused(structure: object) -> None:
    """Or one that names tensors that were not sent."""
    with pytest.raises(MalformedMessageError):
        read_step(request(torch.zeros(1, 1, 4)), structure, LIMITS)


def test_a_message_without_tensors_is_the_end() -> None:
    """Empty bytes, and a request with nothing but a uid."""
    assert parse_request(b"") is None
    assert parse_request(ExpertRequest(uid="m.0").SerializeToString()) is None


def test_more_than_a_handful_of_tensors_is_refused() -> None:
    """Before any of them is unpacked."""
    tensors = [encode_tensor(torch.zeros(1))] * 9

    with pytest.raises(MalformedMessageError, match="at most 8 tensors"):
        parse_request(ExpertRequest(uid="m.0", tensors=tensors).SerializeToString())


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_damaged_bytes_raise_typed_errors_only(noise: bytes, place: int, byte: int) -> None:
    """Noise, and a good message with one byte changed: parsed, or refused as ours."""
    message = ExpertRequest(
        uid="m.0 m.1 m.2",
        tensors=[encode_tensor(torch.zeros(1, 1, 4)), encode_tensor(absent_prompts())],
        metadata=InferenceMetadata(max_length=4, args_structure=structure_of(2)).to_wire(),
    )
    good = bytearray(message.SerializeToString())
    good[place % len(good)] = byte
    for frame in (noise, bytes(good)):
        with suppress(SwarmError):
            parsed = parse_request(frame)
            if parsed is not None:
                read_step(parsed, parsed.metadata.args_structure, LIMITS)
