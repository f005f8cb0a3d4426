"""Hidden states of many sessions in one frame."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from torch import Tensor

from swarm_protocol.dialect import (
    OutputEntry,
    OutputsFrame,
    PushedFrame,
    StepEntry,
    StepExtras,
    StepsFrame,
    decode_reply,
    decode_request,
    encode_outputs,
    encode_pushed,
    encode_steps,
    split_rows,
)
from swarm_protocol.dialect.frame import FrameKind, build_frame, parse_frame
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.serializer import pack
from tests.unit.swarm_protocol.dialect.strategies import (
    outputs_frames,
    pushed_frames,
    steps_frames,
)

ENTRIES = [StepEntry(1, 1, 0, num_rows=2, num_tokens=3), StepEntry(2, 9, 5, 1, 1)]
HIDDEN = torch.arange(28.0).view(7, 4)
PREFIX_AT = 2 * 24  # in the body, behind the entries


def assert_same(one: Tensor | None, other: Tensor | None) -> None:
    """Both absent, or equal in dtype, shape and values."""
    if one is None or other is None:
        assert one is other
    else:
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def assert_same_extras(one: Mapping[int, StepExtras], other: Mapping[int, StepExtras]) -> None:
    """The same entries have the same extras."""
    assert one.keys() == other.keys()
    for index, extras in one.items():
        assert_same(extras.hypo_ids, other[index].hypo_ids)
        assert_same(extras.prompts, other[index].prompts)


@given(frame=steps_frames())
def test_steps_are_read_back(frame: StepsFrame) -> None:
    """Entries, hidden states of any dtype, extras."""
    decoded = decode_request(encode_steps(frame))

    assert isinstance(decoded, StepsFrame)
    assert decoded.entries == frame.entries
    assert_same(decoded.hidden, frame.hidden)
    assert_same_extras(decoded.extras, frame.extras)


@given(frame=pushed_frames())
def test_pushed_steps_are_read_back(frame: PushedFrame) -> None:
    """Their sessions are named by 16 bytes."""
    decoded = decode_request(encode_pushed(frame))

    assert isinstance(decoded, PushedFrame)
    assert decoded.entries == frame.entries
    assert_same(decoded.hidden, frame.hidden)
    assert_same_extras(decoded.extras, frame.extras)


@given(frame=outputs_frames())
def test_outputs_are_read_back(frame: OutputsFrame) -> None:
    """With their timings."""
    decoded = decode_reply(encode_outputs(frame))

    assert isinstance(decoded, OutputsFrame)
    assert decoded.entries == frame.entries
    assert_same(decoded.hidden, frame.hidden)


def test_rows_are_split_by_entry() -> None:
    """An entry's tokens are those of its first row, then of its second, and so on."""
    first, second = split_rows(ENTRIES, HIDDEN)

    assert torch.equal(first, torch.arange(24.0).view(2, 3, 4))
    assert torch.equal(second, torch.arange(24.0, 28.0).view(1, 1, 4))


def test_equal_entries_are_split_in_the_same_way() -> None:
    """The quick way for a frame of decode steps."""
    rows = split_rows([StepEntry(n, 1, 0, 1, 1) for n in range(7)], HIDDEN)

    assert torch.equal(torch.cat(tuple(rows)).view(7, 4), HIDDEN)


def test_steps_without_tokens_have_rows_and_no_values() -> None:
    """They reorder rows, or roll back, and compute nothing."""
    (rows,) = split_rows([StepEntry(1, 1, 0, 2, 0)], torch.empty(0, 4))

    assert rows.shape == (2, 0, 4)


def test_received_hidden_states_may_be_written_to() -> None:
    """They are in memory of their own."""
    data = encode_outputs(OutputsFrame([OutputEntry(1, 1, 0, 7, 1)], HIDDEN))
    decoded = decode_reply(data)
    assert isinstance(decoded, OutputsFrame)

    decoded.hidden.zero_()

    assert data == encode_outputs(OutputsFrame([OutputEntry(1, 1, 0, 7, 1)], HIDDEN))


def body_of(extras: Mapping[int, StepExtras] | None = None) -> bytearray:
    return bytearray(parse_frame(encode_steps(StepsFrame(ENTRIES, HIDDEN, extras or {}))).body)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (12, b"\0\0", "at least one row"),  # rows of the first entry
        (14, b"\4", "9 tokens"),  # tokens of each
        (PREFIX_AT, b"\x09", "unknown code 9"),
        (PREFIX_AT + 4, b"\x05", "7 tokens of 5 values"),
        (PREFIX_AT + 4, b"\0", "7 tokens of 0 values"),
        (PREFIX_AT + 4, b"\x03", "28 bytes too many"),
        (PREFIX_AT + 8, b"\x01", "7 tokens"),  # bytes of the extras
    ],
)
def test_lengths_that_do_not_agree_are_refused(place: int, value: bytes, reason: str) -> None:
    """Numbers of rows and tokens, hidden size and bytes must fit together."""
    body = body_of()
    body[place : place + len(value)] = value

    with pytest.raises(MalformedMessageError, match=reason):
        decode_request(build_frame(FrameKind.STEPS, 2, [body]))


@pytest.mark.parametrize("num_bytes", [0, 47, 48, 63, 64, 100])
def test_a_body_cut_off_is_refused(num_bytes: int) -> None:
    """In the entries, the prefix or the hidden states."""
    with pytest.raises(MalformedMessageError):
        decode_request(build_frame(FrameKind.STEPS, 2, [body_of()[:num_bytes]]))


@pytest.mark.parametrize(
    "extras",
    [
        7,
        {2: {}},
        {"0": {}},
        {0: 7},
        {0: {"hypo_ids": [0]}},
        {0: {"hypo_ids": [0, -1]}},
        {0: {"hypo_ids": [0, 2**16]}},
        {0: {"hypo_ids": [0, True]}},
        {0: {"prompts": [1, 2, 2]}},
        {0: {"prompts": [9, 1, 1, 1]}},
        {0: {"prompts": [1, 1, 0, 1]}},
        {0: {"prompts": [1, 2**40, 2**40, 2**40]}},
        {0: {"prompts": [1, 1, 1, 2]}},
    ],
)
def test_extras_that_do_not_fit_are_refused(extras: object) -> None:
    """They belong to an entry, and say as much as there is."""
    body, packed = body_of(), pack(extras)
    body[PREFIX_AT + 8] = len(packed)

    with pytest.raises(MalformedMessageError):
        decode_request(build_frame(FrameKind.STEPS, 2, [body, packed, bytes(16)]))
