"""Inputs kept to be computed again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from swarm_protocol.rows import Rows
from swarm_server.engine.serving.inputs import InputChunk, KeptInputs, cut_chunks

MIB = 1024 * 1024


def hidden(first: int, num_tokens: int, num_rows: int = 1) -> Tensor:
    """Return [num_rows, num_tokens, 1], numbered from `first`; rows differ by 1000."""
    rows = torch.arange(num_rows).view(-1, 1) * 1000.0
    return (rows + torch.arange(first, first + num_tokens)).unsqueeze(-1)


def chunk_at(position: int, hidden: Tensor, prompts: Tensor | None = None) -> InputChunk:
    """Return a chunk of [num_rows, num_tokens, 1]."""
    return InputChunk(position, Rows.of(hidden), prompts)


def part_of(frame: Tensor, start: int, num_tokens: int) -> Rows:
    """Return one row of some tokens of a frame, [1, any number, 1]."""
    return Rows(frame[0], start, 1, num_tokens)


def read(inputs: KeptInputs, start: int, end: int) -> list[list[float]]:
    """Return the rows of some positions."""
    parts = [part.ordered().hidden for part in cut_chunks(inputs.chunks, start, end)]
    rows: list[list[float]] = torch.cat(parts, 1).squeeze(-1).tolist()
    return rows


def keep(inputs: KeptInputs, chunk: InputChunk) -> None:
    """Add a chunk as a session does."""
    if inputs.append(chunk):
        inputs.join_small()


def test_many_small_chunks_become_one() -> None:
    """A long generation does not leave a chunk per token."""
    inputs = KeptInputs()
    for position in range(100):
        keep(inputs, chunk_at(position, hidden(position, 1)))

    assert len(inputs.chunks) == 3 + 4
    assert read(inputs, 0, 100) == [list(range(100))]


def held_bytes(inputs: KeptInputs) -> int:
    """Return the memory that chunks keep, with the rest of the frames that they came in."""
    return sum(chunk.inputs.memory.untyped_storage().nbytes() for chunk in inputs.chunks)


def test_large_frames_are_not_held_for_a_few_tokens() -> None:
    """Small ones are for a while: their rows need not be copied one by one."""
    inputs = KeptInputs()
    for position in range(10):
        frame = torch.zeros(1, MIB // 4, 1)
        keep(inputs, InputChunk(position, part_of(frame, 10, 1)))
        assert held_bytes(inputs) <= 4 * MIB + 40

    assert len(inputs.chunks) == 2


@pytest.mark.parametrize("frame", [torch.zeros(1, 100, 1), torch.zeros(1, 2 * MIB, 1)])
@pytest.mark.parametrize("num_tokens", [1, 20])
def test_a_large_chunk_or_frame_lets_all_frames_go(frame: Tensor, num_tokens: int) -> None:
    """Those of small chunks before it, too."""
    inputs = KeptInputs()
    keep(inputs, InputChunk(0, part_of(torch.zeros(1, 100, 1), 0, 1)))

    keep(inputs, InputChunk(1, part_of(frame, 0, num_tokens)))

    is_small = num_tokens == 1 and frame.nbytes < MIB
    assert (held_bytes(inputs) > 4 * inputs.end) == is_small


def test_prompts_are_cut_with_their_tokens() -> None:
    """In the middle, and behind them."""
    chunk = chunk_at(5, hidden(5, 6), prompts=torch.arange(3.0).view(1, 1, 3, 1))

    middle, behind = chunk.cut(6, 9), chunk.cut(8, 11)

    assert middle.prompts is not None
    assert middle.prompts.flatten().tolist() == [1, 2]
    assert (middle.position, middle.end) == (6, 9)
    assert behind.prompts is None


def test_rows_take_their_prompts_with_them() -> None:
    """Unless all rows have the same."""
    own = chunk_at(0, hidden(0, 1, 2), prompts=torch.tensor([1.0, 2.0]).view(1, 2, 1, 1))
    shared = chunk_at(0, hidden(0, 1, 2), prompts=torch.ones(1, 1, 1, 1))

    prompts = own.reorder([1, 1]).reorder([0]).prompts_of(0)

    assert prompts is not None
    assert prompts.item() == 2
    assert shared.reorder([1, 0]).prompts_of(1) is not None


OPERATIONS = st.lists(
    st.one_of(
        st.integers(1, 40),
        st.floats(0, 1),
        st.lists(st.integers(0, 1), min_size=2, max_size=2),
    ),
    max_size=60,
)


@given(OPERATIONS)
def test_contents_follow_any_order_of_calls(operations: list[int | float | list[int]]) -> None:
    """An int appends, a float truncates, a list reorders two rows."""
    inputs, expected = KeptInputs(), hidden(0, 0, 2)
    for operation in operations:
        end = expected.shape[1]
        if isinstance(operation, float):
            inputs.truncate(int(operation * end))
            expected = expected[:, : int(operation * end)]
        elif isinstance(operation, list):
            inputs.reorder(operation)
            expected = expected[operation]
        else:
            new = hidden(end, operation, 2)
            keep(inputs, chunk_at(end, new))
            expected = torch.cat((expected, new), 1)
        end = expected.shape[1]
        assert inputs.end == end
        if end > 0:
            start = end // 3
            assert read(inputs, start, end) == expected[:, start:, 0].tolist()
