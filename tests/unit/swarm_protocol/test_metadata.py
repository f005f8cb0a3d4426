import pytest

from swarm_protocol.argument_packing import structure_of
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.metadata import InferenceMetadata, NextServer, TrainingMetadata
from swarm_protocol.serializer import pack, unpack

SESSION_ID = "0e4f93a1-8f47-4a35-9c3e-3d3c9a3f8d11"
STEP_ID = "7a3b1a52-55b1-4df2-b5a3-1ad9d5a5a3c4"


def test_first_metadata_has_petals_bytes() -> None:
    """Keys, order and types of a stock client's first message (PETALS_PROTOCOL §3.2)."""
    metadata = InferenceMetadata(
        session_id=SESSION_ID,
        step_id=STEP_ID,
        max_length=64,
        args_structure=structure_of(3),
        start_from_position=0,
    )

    data = metadata.to_wire()

    assert len(data) == 203
    assert data.hex() == (
        "87"
        + ("aa" + b"session_id".hex() + "d924" + SESSION_ID.encode().hex())
        + ("a7" + b"step_id".hex() + "d924" + STEP_ID.encode().hex())
        + ("aa" + b"max_length".hex() + "40")
        + ("a6" + b"points".hex() + "cb0000000000000000")
        + ("ae" + b"active_adapter".hex() + "c0")
        + ("ae" + b"args_structure".hex() + pack(structure_of(3)).hex())
        + ("b3" + b"start_from_position".hex() + "00")
    )


def test_later_metadata_leaves_out_what_the_first_has_said() -> None:
    """Later steps carry ids and the structure only."""
    data = InferenceMetadata(session_id="s", step_id="t", args_structure=structure_of(3)).to_wire()

    fields = unpack(data)

    assert isinstance(fields, dict)
    assert list(fields) == ["session_id", "step_id", "args_structure"]


def test_metadata_round_trip() -> None:
    """Parsing what we write gives what we wrote."""
    metadata = InferenceMetadata(
        session_id="s",
        step_id="t",
        max_length=5,
        active_adapter="lora",
        args_structure=structure_of(3),
        start_from_position=2,
        alloc_timeout_s=1.5,
    )

    assert InferenceMetadata.parse(metadata.to_wire()) == metadata


def test_no_metadata_is_empty_metadata() -> None:
    """Empty bytes are an empty dict."""
    assert InferenceMetadata.parse(b"") == InferenceMetadata()


def test_unknown_keys_and_an_empty_adapter_are_ignored() -> None:
    """Other versions send keys of their own; "" means no adapter."""
    data = pack({"next_tokens": [["p", "s", 0, 2]], "active_adapter": "", "new": 1})

    assert InferenceMetadata.parse(data) == InferenceMetadata()


@pytest.mark.parametrize(
    "fields",
    [
        {"max_length": "64"},
        {"max_length": 1.0},
        {"max_length": True},
        {"start_from_position": "0"},
        {"session_id": 7},
        {"session_id": "x" * 200},
        {"step_id": b"t"},
        {"active_adapter": ["a"]},
        {"points": None},
        {"points": "0"},
        {"points": float("nan")},
        {"alloc_timeout": float("inf")},
        {"alloc_timeout": True},
        [],
        7,
    ],
)
def test_key_of_a_wrong_type_is_refused(fields: object) -> None:
    """Every key is checked; `points` may not be nil, as with stock servers."""
    with pytest.raises(MalformedMessageError, match="metadata"):
        InferenceMetadata.parse(pack(fields))


def test_negative_patience_is_none() -> None:
    """A negative time to wait for KV memory means no waiting."""
    assert InferenceMetadata.parse(pack({"alloc_timeout": -3})).alloc_timeout_s == 0.0


def test_oversize_metadata_is_refused() -> None:
    """64 KiB are plenty for a dict of ids."""
    with pytest.raises(MalformedMessageError, match="at most"):
        InferenceMetadata.parse(pack({"session_id": "x" * 70_000}))


def test_the_rest_of_the_route_travels_with_a_step() -> None:
    """As lists of peer, session, start and end; a pushed message says so (PETALS_PROTOCOL §3.7)."""
    following = NextServer(PeerId("QmPeer"), "session", BlockRange(2, 4))
    metadata = InferenceMetadata(step_id="t", next_servers=(following,), is_pushed=True)

    fields = unpack(metadata.to_wire())

    assert isinstance(fields, dict)
    assert fields["next_servers"] == [["QmPeer", "session", 2, 4]]
    assert fields["pushed"] is True
    assert InferenceMetadata.parse(metadata.to_wire()) == metadata


@pytest.mark.parametrize(
    "servers",
    [
        "QmPeer",
        {"QmPeer": "s"},
        [[]],
        [["QmPeer", "s", 0]],
        [["QmPeer", "s", 0, 2, 3]],
        [[7, "s", 0, 2]],
        [["QmPeer", b"s", 0, 2]],
        [["QmPeer", "", 0, 2]],
        [["Q" * 200, "s", 0, 2]],
        [["QmPeer", "s", 2, 2]],
        [["QmPeer", "s", -1, 2]],
        [["QmPeer", "s", 0, 5000]],
        [["QmPeer", "s", False, True]],
        [["QmPeer", "s", 0, 1.0]],
    ],
)
def test_a_route_that_is_none_is_refused(servers: object) -> None:
    """Each entry is a peer, a session there and a range of blocks that a model may have."""
    with pytest.raises(MalformedMessageError, match="next_servers"):
        InferenceMetadata.parse(pack({"next_servers": servers}))


def test_training_metadata_round_trip() -> None:
    """Parsing what we write gives what we wrote; `points` stands there for stock servers."""
    metadata = TrainingMetadata(
        active_adapter="lora", args_structure=structure_of(2), output_compression=(2, 0)
    )

    data = metadata.to_wire()

    fields = unpack(data)
    assert isinstance(fields, dict)
    assert fields["points"] == 0.0
    assert TrainingMetadata.parse(data) == metadata
    assert TrainingMetadata.parse(b"") == TrainingMetadata()


@pytest.mark.parametrize(
    "fields",
    [
        {"output_compression": 2},
        {"output_compression": ["2"]},
        {"output_compression": [True]},
        {"output_compression": [0] * 9},
        {"active_adapter": 1},
        {"points": "0"},
        "text",
    ],
)
def test_bad_training_metadata_is_refused(fields: object) -> None:
    """Every key is checked."""
    with pytest.raises(MalformedMessageError, match="metadata"):
        TrainingMetadata.parse(pack(fields))
