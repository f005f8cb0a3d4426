"""Settling what to serve."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from swarm_protocol.errors import CheckpointError, MalformedMessageError
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.node import RecordEntry
from swarm_server.errors import AdapterError, BlockRangeError, DeviceError
from swarm_server.planning import choose_blocks, read_plan
from swarm_server.settings import ServerSettings
from tests.harness.lora_adapters import save_lora


def make_settings(model: Path, **fields: object) -> ServerSettings:
    return ServerSettings.model_validate({"model": str(model)} | fields)


async def choose(settings: ServerSettings, network: MemoryNetwork | None = None) -> BlockRange:
    node = (network or MemoryNetwork()).node("me")
    return await choose_blocks(node, settings, read_plan(settings))


def test_the_prefix_is_derived_from_a_directorys_name(tiny_llama: Path) -> None:
    """Unless the operator gives one."""
    assert read_plan(make_settings(tiny_llama)).dht_prefix == "tiny-llama"
    assert read_plan(make_settings(tiny_llama, dht_prefix="_mine")).dht_prefix == "_mine"


def test_the_dtype_may_be_chosen(tiny_llama: Path) -> None:
    """`auto` follows the checkpoint."""
    assert read_plan(make_settings(tiny_llama)).dtype == torch.float32
    assert read_plan(make_settings(tiny_llama, dtype="bfloat16")).dtype == torch.bfloat16


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_a_cpu_is_measured_before_it_gets_16_bits(
    stored: str, tiny_llama: Path, tmp_path: Path
) -> None:
    """Only where nobody has chosen; float32 stays float32."""
    config = json.loads((tiny_llama / "config.json").read_text()) | {"dtype": stored}
    model = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    (model / "config.json").write_text(json.dumps(config))
    measured = list[torch.dtype]()

    def measure() -> torch.dtype:
        measured.append(torch.float32)
        return torch.float32

    assert read_plan(make_settings(model), measure_dtype=measure).dtype == torch.float32
    read_plan(make_settings(model, dtype="bfloat16"), measure_dtype=measure)
    assert len(measured) == (stored == "bfloat16")


def test_wrong_choices_raise_typed_errors(tiny_llama: Path) -> None:
    """A device, a dtype, a prefix, and a model that are none."""
    with pytest.raises(DeviceError, match="no device 'tpu9'"):
        read_plan(make_settings(tiny_llama, device="tpu9"))
    with pytest.raises(CheckpointError, match="unknown dtype 'int3'"):
        read_plan(make_settings(tiny_llama, dtype="int3"))
    with pytest.raises(MalformedMessageError, match="DHT prefix"):
        read_plan(make_settings(tiny_llama, dht_prefix="a.b"))
    with pytest.raises(CheckpointError, match="no directory"):
        read_plan(make_settings(tiny_llama / "gone"))


def test_adapters_are_opened_before_any_block_is_read(tiny_llama: Path, tmp_path: Path) -> None:
    """One that cannot be served is found out at once, and named."""
    mine = save_lora(tmp_path / "mine", tiny_llama, ["q_proj"])
    bad = save_lora(tmp_path / "bad", tiny_llama, ["q_proj"], use_dora=True)

    plan = read_plan(make_settings(tiny_llama, adapters=[str(mine)]))
    assert [adapter.name for adapter in plan.adapters] == ["mine"]
    with pytest.raises(AdapterError, match=r"adapter bad: .*use_dora is not served"):
        read_plan(make_settings(tiny_llama, adapters=[str(mine), str(bad)]))


async def test_blocks_asked_for_are_taken(tiny_llama: Path) -> None:
    """As a range, or all by default."""
    assert await choose(make_settings(tiny_llama, blocks="1:3")) == BlockRange(1, 3)
    assert await choose(make_settings(tiny_llama)) == BlockRange(0, 4)


@pytest.mark.parametrize("fields", [{"blocks": "2:5"}, {"num_blocks": 5}])
async def test_more_blocks_than_the_model_has_are_refused(
    fields: dict[str, object], tiny_llama: Path
) -> None:
    """The error names how many there are."""
    with pytest.raises(BlockRangeError, match="the model has 4 blocks"):
        await choose(make_settings(tiny_llama, **fields))


async def test_a_number_of_blocks_goes_where_the_swarm_has_least(tiny_llama: Path) -> None:
    """Another server holds the first half."""
    network = MemoryNetwork()
    value = (2, 1.0, {"start_block": 0, "end_block": 2})
    entries = [RecordEntry(f"tiny-llama.{index}", "other", value) for index in range(2)]
    await network.node("other").store(entries, ttl_s=60)

    assert await choose(make_settings(tiny_llama, num_blocks=2), network) == BlockRange(2, 4)
