import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.messages import ExpertRequest, ExpertResponse, ExpertUID, parse_message
from swarm_protocol.serializer import pack
from swarm_protocol.tensor_codec import absent_hypo_ids, absent_prompts, encode_tensor


def test_first_inference_request_has_petals_bytes() -> None:
    """Two blocks, bfloat16 [1, 2, 2], max_length 4: 77 bytes (PETALS_PROTOCOL §3.2)."""
    hidden = torch.tensor([[[1.0, 2.0], [-1.0, 0.0]]], dtype=torch.bfloat16)
    request = ExpertRequest(
        uid="m.0 m.1",
        tensors=[encode_tensor(t) for t in (hidden, absent_prompts(), absent_hypo_ids())],
        metadata=pack({"max_length": 4}),
    )

    data = request.SerializeToString()

    assert len(data) == 77
    assert data.hex() == (
        "0a07" + b"m.0 m.1".hex() + "1219"
        "0a08803f004080bf0000"
        "1203010202"
        "2208" + b"bfloat16".hex() + "120c"
        "120100"
        "2207" + b"float32".hex() + "120a"
        "120100"
        "2205" + b"int64".hex() + "1a0d"
        "81"
        "aa" + b"max_length".hex() + "04"
    )


def test_reply_tensors_are_field_two() -> None:
    """Requests and replies agree in fields 2 and 3, so stock clients may mix them up (§0.2)."""
    reply = ExpertResponse(tensors=[encode_tensor(torch.zeros(1))], metadata=b"x")

    assert parse_message(ExpertRequest, reply.SerializeToString()).tensors == reply.tensors


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_a_message_or_a_typed_error(data: bytes) -> None:
    """protobuf's own errors do not leave this module."""
    for kind in (ExpertRequest, ExpertResponse, ExpertUID):
        with contextlib.suppress(MalformedMessageError):
            parse_message(kind, data)


def test_error_names_the_message_that_was_expected() -> None:
    """Whoever reads the log learns what failed to parse."""
    with pytest.raises(MalformedMessageError, match="ExpertUID"):
        parse_message(ExpertUID, b"\xff")
