"""Beginnings of sessions on the wire."""

from dataclasses import replace

import pytest
from hypothesis import given

from swarm_protocol.dialect import (
    MAX_PREFIX_HASHES,
    Opened,
    OpenedFrame,
    OpenFrame,
    Opening,
    PushTarget,
    decode_reply,
    decode_request,
    encode_open,
    encode_opened,
    split_openings,
)
from swarm_protocol.dialect.frame import FrameKind, build_frame
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.serializer import pack
from tests.unit.swarm_protocol.dialect.strategies import opened_lists, opening_lists

BLOCKS = BlockRange(0, 4)
WIRE: dict[str, object] = {
    "id": 7,
    "blocks": [0, 4],
    "max_length": 100,
    "num_rows": 2,
    "tenant": "",
    "adapter": None,
    "wait_s": 0.0,
    "prefix_hashes": [],
    "token": bytes(16),
    "push_to": None,
}


@given(openings=opening_lists)
def test_openings_are_read_back(openings: tuple[Opening, ...]) -> None:
    """Several in one frame."""
    assert decode_request(encode_open(openings)) == OpenFrame(openings)


def test_any_openings_fit_the_frames_that_they_are_split_into() -> None:
    """The longest that there may be, and very many; in their order."""
    name = "\N{SNOWMAN}" * 256
    target = PushTarget(PeerId(name), bytes(16), BLOCKS)
    short = Opening(7, BLOCKS, 100, 2, token=bytes(16), tenant=name, adapter=name, push_to=target)
    long = replace(short, prefix_hashes=(bytes(16),) * MAX_PREFIX_HASHES)
    openings = [long, long, *[short] * 1000, long]

    runs = list(split_openings(openings))

    assert [decode_request(encode_open(run)) for run in runs] == [OpenFrame(tuple(r)) for r in runs]
    assert [opening for run in runs for opening in run] == openings


@given(opened=opened_lists)
def test_grants_are_read_back(opened: tuple[Opened, ...]) -> None:
    """Several in one frame."""
    assert decode_reply(encode_opened(opened)) == OpenedFrame(opened)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", -1),
        ("id", 2**32),
        ("blocks", [4, 4]),
        ("num_rows", 0),
        ("num_rows", 2**16),
        ("tenant", "x" * 257),
        ("adapter", 7),
        ("wait_s", float("nan")),
        ("wait_s", -1),
        ("wait_s", 2**63),
        ("prefix_hashes", [bytes(15)]),
        ("token", bytes(17)),
        ("token", "0123456789abcdef"),
        ("push_to", "Qm"),
        ("push_to", {"peer": "Qm", "token": bytes(16)}),
    ],
)
def test_an_opening_with_a_wrong_value_is_refused(key: str, value: object) -> None:
    """Whichever key it is."""
    with pytest.raises(MalformedMessageError):
        decode_request(build_frame(FrameKind.OPEN, 1, [pack([WIRE | {key: value}])]))


def test_the_header_counts_the_openings() -> None:
    """A body with another number of them is refused."""
    with pytest.raises(MalformedMessageError, match="list of 2"):
        decode_request(build_frame(FrameKind.OPEN, 2, [pack([WIRE])]))
