"""What a server says about itself in the DHT."""

from pathlib import Path

import torch

from swarm_protocol.identifiers import BlockRange
from swarm_protocol.records import ServerState
from swarm_server.engine.measuring import SpanSpeed
from swarm_server.record import describe_model, describe_server


def test_a_record_holds_measured_rates_and_counts_keys_and_values_apart() -> None:
    """`cache_tokens_left` is twice the free slots: Petals' unit there (PETALS_PROTOCOL §5.2)."""
    record = describe_server(
        ServerState.ONLINE,
        BlockRange(2, 5),
        dtype=torch.bfloat16,
        public_name="ours",
        speed=SpanSpeed(decode_rps=300.0, prefill_rps=100.0, chunks=[(64, 1.0)]),
        slots_left=48,
        adapters=("mine", "organization/theirs"),
    )

    state, throughput, extra = record.to_wire()
    assert (state, throughput) == (2, 50.0)
    assert (extra["start_block"], extra["end_block"]) == (2, 5)
    assert (extra["inference_rps"], extra["forward_rps"]) == (300.0, 100.0)
    assert extra["cache_tokens_left"] == 96
    assert (extra["torch_dtype"], extra["public_name"]) == ("bfloat16", "ours")
    assert extra["adapters"] == ("mine", "organization/theirs")


def test_a_loading_server_counts_for_placement() -> None:
    """Its throughput is unknown but not zero, so that the next one chooses other blocks."""
    record = describe_server(
        ServerState.JOINING,
        BlockRange(0, 1),
        dtype=torch.float32,
        public_name=None,
        speed=None,
        slots_left=1,
    )

    assert record.throughput > 0
    assert record.inference_rps is None


def test_only_a_hubs_model_names_a_repository(tmp_path: Path) -> None:
    """A directory of ours is of no use to others."""
    assert describe_model(str(tmp_path), 4).repository is None
    repository = describe_model("organization/name", 4).repository
    assert repository is not None
    assert repository.endswith("/organization/name")
