"""What a server will serve, settled before any weight is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from swarm_protocol.checkpoint import HubSettings, choose_dtype, leaves_choice
from swarm_protocol.identifiers import (
    BlockRange,
    check_dht_prefix,
    derive_dht_prefix,
    make_uid,
)
from swarm_protocol.node import Node
from swarm_server.adapters import AdapterFiles
from swarm_server.engine.cpu_dtype import faster_cpu_dtype
from swarm_server.errors import AdapterError, BlockRangeError, DeviceError
from swarm_server.loading import OpenModel, check_blocks, open_model
from swarm_server.placement import choose_window, read_spans, throughput_per_block
from swarm_server.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """Blocks of a model, under a name, in a dtype, and adapters for them."""

    model: OpenModel
    dht_prefix: str
    dtype: torch.dtype
    device: str
    adapters: tuple[AdapterFiles, ...] = ()


def read_plan(
    settings: ServerSettings, *, measure_dtype: Callable[[], torch.dtype] = faster_cpu_dtype
) -> ServingPlan:
    """Read the model's config and settle everything but the blocks. Touches the disk.

    For the compute thread, whose products `measure_dtype` times where a CPU may choose its dtype.

    Raises:
        CheckpointError: the model cannot be served here, or not in this dtype.
        AdapterError: an adapter cannot be served.
        DeviceError: there is no such device.
        MalformedMessageError: the DHT prefix is not one.
    """
    hub = HubSettings(max_disk_bytes=settings.max_disk_bytes)
    model = open_model(settings.model, revision=settings.revision, hub=hub)
    prefix = settings.dht_prefix or derive_dht_prefix(settings.model, model.checkpoint.model_type)
    _check_device(settings.device)
    adapters = _open_adapters(settings.adapters, hub)
    prefix = check_dht_prefix(prefix)
    asked = (settings.dtype, model.checkpoint.dtype_name, settings.device)
    dtype = measure_dtype() if leaves_choice(*asked) else choose_dtype(*asked)
    return ServingPlan(model, prefix, dtype, settings.device, adapters)


async def choose_blocks(node: Node, settings: ServerSettings, plan: ServingPlan) -> BlockRange:
    """Return the blocks to serve: those asked for, or where the swarm has least.

    Raises:
        BlockRangeError: the model has no such blocks, or not so many.
    """
    num_blocks = plan.model.num_blocks
    if settings.blocks is not None:
        return check_blocks(plan.model, BlockRange.parse(settings.blocks))
    if settings.num_blocks is None or settings.num_blocks == num_blocks:
        return BlockRange(0, num_blocks)
    if settings.num_blocks > num_blocks:
        raise BlockRangeError(f"({settings.num_blocks} of them)", num_blocks)
    uids = [make_uid(plan.dht_prefix, index) for index in range(num_blocks)]
    found = await node.lookup(uids)
    spans = read_spans([found.get(uid, {}) for uid in uids], own_peer=node.peer_id)
    return choose_window(throughput_per_block(spans, num_blocks), settings.num_blocks)


def _open_adapters(sources: Sequence[str], hub: HubSettings) -> tuple[AdapterFiles, ...]:
    adapters: dict[str, AdapterFiles] = {}
    for source in sources:
        files = AdapterFiles.open(source, hub=hub)
        if files.name in adapters:
            raise AdapterError(files.name, "another one has the same name")
        adapters[files.name] = files
    return tuple(adapters.values())


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either
        raise DeviceError(device) from error
