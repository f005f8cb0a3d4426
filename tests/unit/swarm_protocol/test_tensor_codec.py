import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.messages import TensorMessage
from swarm_protocol.tensor_codec import (
    DTYPES,
    Compression,
    absent_hypo_ids,
    absent_prompts,
    decode_tensor,
    encode_tensor,
    is_absent,
)

SMALL = torch.tensor([[[1.0, 2.0], [-1.0, 0.0]]], dtype=torch.bfloat16)


def test_bfloat16_has_the_documented_bytes() -> None:
    """Two bytes a value, little-endian (PETALS_PROTOCOL §2.2)."""
    message = encode_tensor(SMALL)

    assert message.SerializeToString().hex() == (
        "0a08803f004080bf000012030102022208" + b"bfloat16".hex()
    )


@pytest.mark.parametrize(
    ("tensor", "data"),
    [
        (absent_prompts(), "1201002207" + b"float32".hex()),
        (absent_hypo_ids(), "1201002205" + b"int64".hex()),
    ],
)
def test_absent_tensors_have_the_documented_bytes(tensor: Tensor, data: str) -> None:
    """Zero elements stand for "not given"; the dtype counts even then."""
    message = encode_tensor(tensor)

    assert message.SerializeToString().hex() == data
    assert is_absent(decode_tensor(message))


def test_bfloat16_of_older_peers_is_read() -> None:
    """Older hivemind carries bfloat16 as float32 under the dtype `bfloat16`."""
    old = TensorMessage(buffer=SMALL.float().numpy().tobytes(), size=SMALL.shape, dtype="bfloat16")

    assert torch.equal(decode_tensor(old), SMALL)


def test_empty_bfloat16_is_read() -> None:
    """With no values, two and four bytes a value look the same."""
    message = encode_tensor(torch.empty(2, 0, 8, dtype=torch.bfloat16))

    assert decode_tensor(message).shape == (2, 0, 8)


@given(
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 5), max_size=4),
)
def test_every_dtype_survives_the_trip(name: str, shape: list[int]) -> None:
    """Codec NONE loses nothing."""
    tensor = (torch.rand(shape) * 100).to(DTYPES[name])

    decoded = decode_tensor(encode_tensor(tensor))

    assert decoded.dtype == tensor.dtype
    assert torch.equal(decoded, tensor)


def test_decoded_tensor_owns_its_memory() -> None:
    """Writing to it must not touch the message."""
    message = encode_tensor(torch.zeros(3))

    decode_tensor(message).fill_(1)

    assert torch.equal(decode_tensor(message), torch.zeros(3))


def test_strided_tensor_is_sent_in_c_order() -> None:
    """A transposed view has the bytes of its contiguous copy."""
    tensor = torch.arange(6.0).reshape(2, 3).T

    assert torch.equal(decode_tensor(encode_tensor(tensor)), tensor)


def test_float16_codec_names_the_original_dtype_and_clamps() -> None:
    """Values beyond float16's range arrive as its largest value, not as infinity."""
    message = encode_tensor(torch.tensor([1.5, 1e6, -1e6]), Compression.FLOAT16)

    assert (message.dtype, len(message.buffer)) == ("float32", 6)
    assert decode_tensor(message).tolist() == [1.5, 65504.0, -65504.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64])
def test_float16_codec_refuses_what_hivemind_refuses(dtype: torch.dtype) -> None:
    """bfloat16 and integers travel as they are."""
    with pytest.raises(MalformedMessageError, match="cannot encode"):
        encode_tensor(torch.zeros(2, dtype=dtype), Compression.FLOAT16)


@pytest.mark.parametrize("code", [1, 3, 4, 5])
def test_other_codecs_are_refused_by_name(code: int) -> None:
    """The sentence says which codec came and which ones are read."""
    message = TensorMessage(buffer=b"", size=[0], dtype="float32", compression=code)

    with pytest.raises(MalformedMessageError, match=f"{Compression(code).name}.*NONE or FLOAT16"):
        decode_tensor(message)


@pytest.mark.parametrize(
    "message",
    [
        TensorMessage(buffer=b"1234", size=[1], dtype="complex64"),
        TensorMessage(buffer=b"1234", size=[1], dtype=""),
        TensorMessage(buffer=b"123", size=[1], dtype="float32"),
        TensorMessage(buffer=b"", size=[1], dtype="float32"),
        TensorMessage(buffer=b"12345678", size=[1], dtype="float32"),
        TensorMessage(buffer=b"", size=[2**31, 2**31], dtype="float32"),
        TensorMessage(buffer=b"", size=[1] * 9, dtype="float32"),
        TensorMessage(buffer=b"", size=[0] + [2**32 - 1] * 3, dtype="float32"),
        TensorMessage(buffer=b"1234", size=[2], dtype="bfloat16", compression=2),
        TensorMessage(buffer=b"1234", size=[2], dtype="int32", compression=2),
    ],
)
def test_message_that_does_not_fit_its_own_fields_is_refused(message: TensorMessage) -> None:
    """Nothing a peer writes into a tensor message is believed unchecked."""
    with pytest.raises(MalformedMessageError):
        decode_tensor(message)


def test_tensor_over_the_callers_limit_is_refused() -> None:
    """The limit is in bytes of the decoded tensor."""
    message = encode_tensor(torch.zeros(16))

    assert decode_tensor(message, max_bytes=64).numel() == 16
    with pytest.raises(MalformedMessageError, match="limit of 63"):
        decode_tensor(message, max_bytes=63)
