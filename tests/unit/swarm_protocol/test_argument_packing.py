import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.argument_packing import structure_of, unpack_arguments
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.serializer import pack

TENSORS = [torch.tensor(float(i)) for i in range(3)]


@pytest.mark.parametrize(
    ("num_tensors", "data"),
    [
        (2, "c7124092c70d4092c4045f5f5430c4045f5f543180"),
        (3, "c7184092c7134093c4045f5f5430c4045f5f5431c4045f5f543280"),
    ],
)
def test_structure_has_petals_bytes(num_tensors: int, data: str) -> None:
    """Forward has two tensors, inference and backward three (PETALS_PROTOCOL §4)."""
    assert pack(structure_of(num_tensors)).hex() == data


def test_positional_tensors_and_their_structure_mean_the_same() -> None:
    """Peers of 2.0.1 and older send no structure."""
    plain = unpack_arguments(TENSORS, None)
    structured = unpack_arguments(TENSORS, structure_of(3))

    assert [id(t) for t in plain] == [id(t) for t in structured] == [id(t) for t in TENSORS]


def test_nil_argument_is_none() -> None:
    """A structure may say that an argument is not given."""
    hidden, prompts, hypo_ids = unpack_arguments(TENSORS[:2], ((b"__T0", None, b"__T1"), {}))

    assert prompts is None
    assert (hidden, hypo_ids) == (TENSORS[0], TENSORS[1])


@pytest.mark.parametrize(
    "structure",
    [
        7,
        (),
        ((b"__T0",),),
        (b"__T0", {}),
        ((b"__T3",), {}),
        ((b"__T-1",), {}),
        ((b"__T",), {}),
        ((b"__T0001",), {}),
        ((b"0",), {}),
        (("__T0",), {}),
        (((b"__T0",),), {}),
        ((b"__T0",) * 300, {}),
    ],
)
def test_structure_that_points_nowhere_is_refused(structure: object) -> None:
    """Indices are checked against the tensors that came."""
    with pytest.raises(MalformedMessageError, match="args_structure"):
        unpack_arguments(TENSORS, structure)


@given(st.recursive(st.binary(max_size=6) | st.none() | st.integers(), st.lists, max_leaves=8))
def test_any_structure_gives_arguments_or_a_typed_error(structure: object) -> None:
    """The structure comes from a peer."""
    with contextlib.suppress(MalformedMessageError):
        unpack_arguments(TENSORS, structure)
