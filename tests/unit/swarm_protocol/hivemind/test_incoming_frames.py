"""Frames out of bytes of any cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.hivemind.frames import HEADER
from swarm_protocol.hivemind.incoming_frames import IncomingFrames

FRAMES = st.lists(st.tuples(st.sampled_from([0, 1]), st.binary(max_size=40)), max_size=8)


def give(incoming: IncomingFrames, data: bytes) -> list[tuple[int, bytes]]:
    """Let bytes arrive that fit the room, as a socket does; return the frames they complete."""
    frames = list[tuple[int, bytes]]()
    while data:
        room = incoming.room()
        part, data = data[: len(room)], data[len(room) :]
        room[: len(part)] = part
        frames += incoming.received(len(part))
    return frames


@given(frames=FRAMES, sizes=st.lists(st.integers(1, 30), min_size=1))
def test_frames_arrive_whole_however_they_are_cut(
    frames: list[tuple[int, bytes]], sizes: list[int]
) -> None:
    """In their order, each as soon as its last byte is there; then nothing is left over."""
    data = b"".join(HEADER.pack(marker, len(payload)) + payload for marker, payload in frames)
    incoming, arrived = IncomingFrames(), list[tuple[int, bytes]]()

    while data:
        size = sizes[len(data) % len(sizes)]
        arrived += give(incoming, data[:size])
        data = data[size:]

    assert arrived == frames
    assert not incoming.is_inside


@pytest.mark.parametrize("num_bytes", [1, 9, 10, 13])
def test_a_part_of_a_frame_is_known_as_one(num_bytes: int) -> None:
    """Of its header, or of its payload."""
    incoming = IncomingFrames()

    assert give(incoming, (HEADER.pack(0, 5) + b"hello")[:num_bytes]) == []

    assert incoming.is_inside


@pytest.mark.parametrize("num_bytes", [10_000, 20_000, 3_000_000])
def test_there_is_room_for_frames_of_any_size(num_bytes: int) -> None:
    """Beside others, the next as soon as one is there; much memory is not kept."""
    payload = bytes(range(250)) * (num_bytes // 250)
    small, large = HEADER.pack(0, 1) + b"s", HEADER.pack(0, len(payload)) + payload
    incoming = IncomingFrames()

    frames = give(incoming, small + large + small + large[:100])
    assert give(incoming, large[100:]) == [(0, payload)]

    assert frames == [(0, b"s"), (0, payload), (0, b"s")]
    assert len(incoming.room()) < 1_200_000


def test_frames_before_what_is_none_count() -> None:
    """Also where both came at once."""
    incoming, frames = IncomingFrames(), list[tuple[int, bytes]]()
    data = HEADER.pack(0, 1) + b"a" + HEADER.pack(9, 0)
    incoming.room()[: len(data)] = data

    with pytest.raises(MalformedMessageError):
        frames.extend(incoming.received(len(data)))  # extend takes them one by one

    assert frames == [(0, b"a")]


def test_frames_keep_what_they_hold() -> None:
    """Memory to receive into is used again; a payload is not."""
    incoming = IncomingFrames()
    (first,) = give(incoming, HEADER.pack(0, 3) + b"abc")
    (second,) = give(incoming, HEADER.pack(0, 2) + b"de")

    assert (first, second) == ((0, b"abc"), (0, b"de"))


@pytest.mark.parametrize("header", [(2, 0), (0, 2**62), (1, 2**20)])
def test_what_is_no_header_is_refused(header: tuple[int, int]) -> None:
    """An unknown marker; a length beyond all limits, for which nothing is allocated."""
    with pytest.raises(MalformedMessageError, match="is refused"):
        give(IncomingFrames(), HEADER.pack(*header))
