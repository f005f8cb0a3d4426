from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.records import ModelRecord, ServerRecord, ServerState
from swarm_protocol.serializer import pack, unpack

FULL = {
    "start_block": 0,
    "end_block": 2,
    "public_name": "a",
    "version": "2.2.0.post1",
    "network_rps": 1.5,
    "forward_rps": 2.0,
    "inference_rps": 3.0,
    "adapters": (),
    "torch_dtype": "bfloat16",
    "quant_type": "none",
    "using_relay": False,
    "cache_tokens_left": 8192,
    "next_pings": {"Qm": 0.5},
}


@pytest.mark.parametrize(
    "value",
    [
        (2, 1.0),
        (2, 1.0, {}),
        [2, 1.0, {}],
        (1, 0.0, {"adapters": ["a", "b"]}),
        (0, 1.0, {"unknown": object}),
        (2, 1.0, {"public_name": None, "next_pings": {"Qm": inf}}),
        (2, 12.5, FULL),
    ],
)
def test_what_stock_readers_accept_is_accepted(value: object) -> None:
    """Absent and nil keys, unknown keys and infinite pings are legal (PETALS_PROTOCOL §1.4)."""
    assert isinstance(ServerRecord.from_wire(value), ServerRecord)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        (2,),
        (2, 1.0, {}, 0),
        (2, 1, {}),
        (2.0, 1.0, {}),
        (True, 1.0, {}),
        (3, 1.0, {}),
        (2, -1.0, {}),
        (2, inf, {}),
        (2, nan, {}),
        (2, 1.0, []),
        (2, 1.0, {"inference_rps": 3}),
        (2, 1.0, {"inference_rps": inf}),
        (2, 1.0, {"next_pings": {"Qm": 1}}),
        (2, 1.0, {"start_block": -1}),
        (2, 1.0, {"start_block": 1.0}),
        (2, 1.0, {"start_block": True}),
        (2, 1.0, {"end_block": 10**9}),
        (2, 1.0, {"cache_tokens_left": -1}),
        (2, 1.0, {"adapters": "a"}),
        (2, 1.0, {"adapters": [1]}),
        (2, 1.0, {"public_name": 7}),
        (2, 1.0, {"using_relay": 0}),
        (2, 1.0, {7: 8}),
    ],
)
def test_what_stock_readers_reject_is_rejected(value: object) -> None:
    """Strict types are part of the format: an int is not a float, a bool is not an int."""
    with pytest.raises(MalformedMessageError, match="server record"):
        ServerRecord.from_wire(value)


def test_record_has_petals_bytes() -> None:
    """`(2, 1.0, {…})` as a tuple, the extra keys in the order of stock servers."""
    record = ServerRecord(state=ServerState.ONLINE, throughput=12.5, start_block=0, end_block=2)

    assert (
        pack(record.to_wire())
        .hex()
        .endswith(
            "40"
            "93"
            "02"
            "cb4029000000000000"
            "83"
            "ab" + b"start_block".hex() + "00"
            "a9" + b"end_block".hex() + "02"
            "a8" + b"adapters".hex() + "d44090"
        )
    )


def test_full_record_keeps_the_order_of_stock_servers() -> None:
    """Written and read back through msgpack, nothing changes."""
    record = ServerRecord.from_wire((2, 12.5, FULL))

    state, throughput, extra = record.to_wire()

    assert (state, throughput, list(extra)) == (2, 12.5, list(FULL))
    assert ServerRecord.from_wire(unpack(pack(record.to_wire()))) == record


@given(st.integers(0, 1000))
def test_whole_rates_are_written_as_floats(rate: int) -> None:
    """An integer would make the server invisible to stock readers."""
    record = ServerRecord(
        state=ServerState.ONLINE,
        throughput=float(rate),
        inference_rps=float(rate),
        next_pings={"Qm": float(rate)},
    )

    read = unpack(pack(record.to_wire()))

    assert isinstance(read, tuple)
    assert isinstance(read[1], float)
    assert isinstance(read[2]["inference_rps"], float)
    assert isinstance(read[2]["next_pings"]["Qm"], float)


def test_registry_entry_of_a_private_model_has_petals_bytes() -> None:
    """24 blocks, no repository (PETALS_PROTOCOL §1.5)."""
    record = ModelRecord(num_blocks=24)

    assert pack(record.model_dump()).hex() == (
        "82aa" + b"num_blocks".hex() + "18aa" + b"repository".hex() + "c0"
    )
