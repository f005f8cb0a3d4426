import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.messages import TensorMessage
from swarm_protocol.tensor_codec import decode_tensor, encode_tensor
from swarm_protocol.tensor_parts import PartAssembler, split_tensors

MIB = 1024 * 1024


def assembler() -> PartAssembler:
    return PartAssembler(max_tensors=3, max_bytes=64)


def assembled(parts: list[TensorMessage]) -> list[Tensor]:
    whole = PartAssembler(max_tensors=8, max_bytes=64 * MIB)
    for part in parts:
        whole.add(part)
    return [decode_tensor(message) for message in whole.finish()]


def test_a_tensor_of_9_mib_streams_as_three_parts() -> None:
    """4 + 4 + 1 MiB; only the first has dtype, size and the number of parts."""
    tensor = torch.arange(9 * MIB // 4, dtype=torch.float32)

    parts = list(split_tensors([encode_tensor(tensor)]))

    assert [len(part.buffer) for part in parts] == [4 * MIB, 4 * MIB, MIB]
    assert (parts[0].dtype, parts[0].size, parts[0].chunks) == ("float32", [len(tensor)], 3)
    assert [(part.dtype, list(part.size), part.chunks) for part in parts[1:]] == [("", [], 0)] * 2
    assert torch.equal(assembled(parts)[0], tensor)


@given(
    sizes=st.lists(st.integers(0, 40), max_size=6),
    part_bytes=st.integers(1, 50),
)
def test_consecutive_tensors_come_back_as_they_were(sizes: list[int], part_bytes: int) -> None:
    """Whatever their sizes, empty ones included, and however they are cut."""
    tensors = [torch.arange(size, dtype=torch.int32).reshape(size, 1) for size in sizes]

    parts = list(split_tensors(map(encode_tensor, tensors), part_bytes=part_bytes))

    assert all(len(part.buffer) <= part_bytes for part in parts)
    got = assembled(parts)
    assert [tensor.tolist() for tensor in got] == [tensor.tolist() for tensor in tensors]


def test_tensors_over_the_limit_are_refused_before_they_are_whole() -> None:
    """The buffers of all tensors count together."""
    whole = assembler()
    whole.add(TensorMessage(dtype="uint8", buffer=b"x" * 60))

    with pytest.raises(MalformedMessageError, match="limit of 64 bytes"):
        whole.add(TensorMessage(dtype="uint8", buffer=b"x" * 5))


def test_more_tensors_than_expected_are_refused() -> None:
    """The number is fixed by the method."""
    whole = assembler()
    for _ in range(3):
        whole.add(TensorMessage(dtype="uint8", buffer=b"x"))

    with pytest.raises(MalformedMessageError, match="at most 3 tensors"):
        whole.add(TensorMessage(dtype="uint8", buffer=b"x"))


@pytest.mark.parametrize("num_later", [0, 2])
def test_a_wrong_number_of_parts_is_refused(num_later: int) -> None:
    """A tensor announced in two parts has neither one nor three."""
    whole = assembler()
    whole.add(TensorMessage(dtype="uint8", buffer=b"x", chunks=2))
    for _ in range(num_later):
        whole.add(TensorMessage(buffer=b"x"))

    with pytest.raises(MalformedMessageError, match="in 2 parts"):
        whole.finish()


def test_a_stream_must_begin_with_a_first_part() -> None:
    """One that names a dtype."""
    with pytest.raises(MalformedMessageError, match="name its dtype"):
        assembler().add(TensorMessage(buffer=b"x"))


def test_an_empty_later_part_is_refused() -> None:
    """Else a peer could send parts for ever without reaching the limit."""
    whole = assembler()
    whole.add(TensorMessage(dtype="uint8", buffer=b"x"))

    with pytest.raises(MalformedMessageError, match="must not be empty"):
        whole.add(TensorMessage())
