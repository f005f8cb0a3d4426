"""Loading the weights of a range of blocks, and what adapters add to them."""

from collections.abc import Sequence

import torch

from swarm_protocol.identifiers import BlockRange
from swarm_server.adapters import AdapterFiles
from swarm_server.engine.adaptable_linear import BlockAdapter
from swarm_server.engine.span import Block, Span
from swarm_server.errors import BlockRangeError
from swarm_server.loading.block_tensors import BlockTensors
from swarm_server.loading.registry import OpenModel


def check_blocks(model: OpenModel, blocks: BlockRange) -> BlockRange:
    """Return `blocks` when the model has them.

    Raises:
        BlockRangeError: it has not, or the range is empty.
    """
    if len(blocks) == 0 or blocks.end > model.num_blocks:
        raise BlockRangeError(str(blocks), model.num_blocks)
    return blocks


def load_span(
    model: OpenModel,
    blocks: BlockRange,
    *,
    dtype: torch.dtype,
    device: str = "cpu",
    adapters: Sequence[AdapterFiles] = (),
) -> Span:
    """Read the weights of `blocks`, one block and one shard at a time.

    Args:
        model: that has the blocks.
        blocks: to load.
        dtype: to compute in.
        device: to compute on.
        adapters: opened; of each only what these blocks need is read.

    Raises:
        BlockRangeError: the model has no such blocks.
        CheckpointError: a parameter is missing or does not fit.
        AdapterError: an adapter does not fit.
    """
    check_blocks(model, blocks)
    added: dict[str, list[BlockAdapter]] = {adapter.name: [] for adapter in adapters}
    layers: list[Block] = []
    for index in range(blocks.start, blocks.end):
        tensors = _block_tensors(model, index, dtype, device)
        layers.append(model.architecture.load_block(tensors, index))
        for adapter in adapters:
            added[adapter.name].append(adapter.read_block(index, tensors.layers, device=device))
    return Span(blocks, layers, model.shape, dtype=dtype, device=device, adapters=added)


def _block_tensors(model: OpenModel, index: int, dtype: torch.dtype, device: str) -> BlockTensors:
    prefixes = [f"{prefix}{index}." for prefix in model.architecture.prefixes]
    return BlockTensors(model.checkpoint, prefixes, dtype=dtype, device=device)
