"""Loading the weights of a range of blocks."""

import torch

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.span import Span
from swarm_server.errors import BlockRangeError
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
    model: OpenModel, blocks: BlockRange, *, dtype: torch.dtype, device: str = "cpu"
) -> Span:
    """Read the weights of `blocks`, one block and one shard at a time.

    Raises:
        BlockRangeError: the model has no such blocks.
        CheckpointError: a parameter is missing or does not fit.
    """
    check_blocks(model, blocks)
    layers = [
        model.family.load_block(model.checkpoint, model.shape, index, dtype=dtype, device=device)
        for index in range(blocks.start, blocks.end)
    ]
    return Span(blocks, layers, model.shape, dtype=dtype, device=device)
