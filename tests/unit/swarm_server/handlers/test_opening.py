"""The first message of a session."""

from dataclasses import replace

import pytest
import torch

from swarm_protocol.errors import MalformedMessageError, SwarmError
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.metadata import InferenceMetadata
from swarm_server.errors import KVMemoryError, NotServedError
from swarm_server.handlers.opening import ServedModel, read_opening
from swarm_server.handlers.step_request import StepRequest

SERVED = ServedModel(
    dht_prefix="m", blocks=BlockRange(2, 6), hidden_size=4, max_length=100, max_batch_tokens=50
)
REQUEST = StepRequest("m.3 m.4", InferenceMetadata(max_length=10), (torch.zeros(2, 1, 4),))


def test_slots_are_tokens_times_rows_times_blocks() -> None:
    """Of the session's chain, which may be a part of the server's span."""
    opening = read_opening(REQUEST, SERVED)

    assert opening.blocks == BlockRange(3, 5)
    assert opening.num_slots == 10 * 2 * 2


def test_rows_without_tokens_take_slots_as_well() -> None:
    """Else any number of rows could be had for nothing."""
    request = replace(REQUEST, metadata=InferenceMetadata(max_length=0))

    assert read_opening(request, SERVED).num_slots == 2 * 2


@pytest.mark.parametrize("uid", ["m.1 m.2", "m.5 m.6", "other.3", "m.7"])
def test_blocks_of_others_are_refused(uid: str) -> None:
    """Before or behind our span, or of another model."""
    with pytest.raises(NotServedError, match=f"Remote peer does not serve {uid}"):
        read_opening(replace(REQUEST, uid=uid), SERVED)


@pytest.mark.parametrize("uid", ["", "m", "m.3 m.5", "m.3  m.4", "m.x", "m.3 n.4"])
def test_what_is_no_chain_is_refused(uid: str) -> None:
    """The blocks of a chain follow each other."""
    with pytest.raises(MalformedMessageError):
        read_opening(replace(REQUEST, uid=uid), SERVED)


@pytest.mark.parametrize(
    ("max_length", "error", "message"),
    [
        (None, MalformedMessageError, "must contain int max_length, got None"),
        (-1, MalformedMessageError, "must contain int max_length, got -1"),
        (101, KVMemoryError, "Cannot allocate KV cache for 101 tokens, max = 100"),
    ],
)
def test_a_length_out_of_range_is_refused(
    max_length: int | None, error: type[SwarmError], message: str
) -> None:
    """It is needed, and bounded by the server."""
    metadata = InferenceMetadata(max_length=max_length)

    with pytest.raises(error, match=message):
        read_opening(replace(REQUEST, metadata=metadata), SERVED)


def test_a_session_has_the_adapter_that_it_asks_for() -> None:
    """Or none; one that is not there is refused by name (PETALS_PROTOCOL §3.8)."""
    request = replace(REQUEST, metadata=InferenceMetadata(max_length=1, active_adapter="lora"))

    assert read_opening(REQUEST, SERVED).adapter is None
    assert read_opening(request, replace(SERVED, adapters=frozenset({"lora"}))).adapter == "lora"
    with pytest.raises(NotServedError, match="adapter lora not found"):
        read_opening(request, SERVED)


def test_nobody_waits_for_memory_longer_than_ten_minutes() -> None:
    """Whatever the caller asks for."""
    metadata = InferenceMetadata(max_length=1, alloc_timeout_s=1e9)

    assert read_opening(replace(REQUEST, metadata=metadata), SERVED).wait_s == 600.0
