"""The first words between two peers."""

import pytest
import torch

from swarm_protocol.dialect import STEP_FLAGS, WANTS_PUSH, HelloReply, HelloRequest
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.serializer import pack, unpack

REPLY = HelloReply(
    version=1,
    blocks=BlockRange(2, 6),
    hidden_size=64,
    dtype=torch.bfloat16,
    page_size=64,
    max_frame_tokens=1024,
    max_inflight_tokens=4096,
    max_length=2048,
    adapters=("poet",),
    step_flags=STEP_FLAGS,
)


def test_a_request_is_read_back() -> None:
    """Versions and the model's prefix."""
    request = HelloRequest((1, 2), "tiny-hf")

    assert HelloRequest.parse(request.to_wire()) == request


def test_a_reply_is_read_back() -> None:
    """Every fact of it."""
    assert HelloReply.parse(REPLY.to_wire()) == REPLY


def test_unknown_keys_of_later_versions_are_ignored() -> None:
    """So a peer may say more without a new version."""
    fields = unpack(REPLY.to_wire())
    assert isinstance(fields, dict)

    assert HelloReply.parse(pack(fields | {"mood": "good"})) == REPLY


def test_a_server_that_tells_no_flags_knows_pushes() -> None:
    """They are as old as the dialect."""
    fields = unpack(REPLY.to_wire())
    assert isinstance(fields, dict)
    del fields["step_flags"]

    assert HelloReply.parse(pack(fields)).step_flags == WANTS_PUSH


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", "1"),
        ("version", True),
        ("blocks", [6, 2]),
        ("blocks", [0, 2**20]),
        ("hidden_size", 0),
        ("dtype", "int64"),
        ("dtype", "quaternion"),
        ("page_size", -64),
        ("max_frame_tokens", None),
        ("max_inflight_tokens", 1.5),
        ("adapters", ["poet", 7]),
        ("step_flags", "all"),
        ("step_flags", -1),
    ],
)
def test_a_reply_with_a_wrong_value_is_refused(key: str, value: object) -> None:
    """The error names the key, or what the value should be."""
    fields = unpack(REPLY.to_wire())
    assert isinstance(fields, dict)

    with pytest.raises(MalformedMessageError):
        HelloReply.parse(pack(fields | {key: value}))


@pytest.mark.parametrize(
    "fields", [7, {}, {"versions": 1, "dht_prefix": "m"}, {"versions": [1], "dht_prefix": "m.0"}]
)
def test_a_request_with_a_wrong_value_is_refused(fields: object) -> None:
    """Both keys are needed, and the prefix is one."""
    with pytest.raises(MalformedMessageError):
        HelloRequest.parse(pack(fields))
