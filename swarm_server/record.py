"""The record a server publishes about itself. Source: PETALS_PROTOCOL §1.4, §5.2."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from swarm_protocol.identifiers import BlockRange
from swarm_protocol.records import ModelRecord, ServerRecord, ServerState
from swarm_protocol.tensor_codec import dtype_name
from swarm_server.engine.measuring import SpanSpeed

_NOMINAL_THROUGHPUT = 1.0
"""Of a server that is still loading: enough for others to choose other blocks."""


def own_version() -> str:
    """Return what we call ourselves to peers."""
    try:
        return f"swarmgate/{version('swarmgate')}"
    except PackageNotFoundError:  # run from a tree that is not installed
        return "swarmgate/unknown"


def describe_model(source: str, num_blocks: int) -> ModelRecord:
    """Return the registry's entry; only models of a hub have a repository to name."""
    if Path(source).is_dir():
        return ModelRecord(num_blocks=num_blocks)
    from huggingface_hub.constants import ENDPOINT  # takes long to import, and is rarely needed

    return ModelRecord(num_blocks=num_blocks, repository=f"{ENDPOINT}/{source}")


def describe_server(
    state: ServerState,
    blocks: BlockRange,
    *,
    dtype: torch.dtype,
    public_name: str | None,
    speed: SpanSpeed | None,
    slots_left: int,
    adapters: tuple[str, ...] = (),
) -> ServerRecord:
    """Return the record as of now.

    Args:
        state: of the server.
        blocks: that it serves.
        dtype: in which it computes.
        public_name: as the operator has chosen.
        speed: None while unknown.
        slots_left: free KV memory, one slot per token and block. The record counts keys and
            values apart, hence twice as many.
        adapters: names of those that it can add.
    """
    return ServerRecord(
        state=state,
        throughput=_NOMINAL_THROUGHPUT if speed is None else speed.throughput(len(blocks)),
        start_block=blocks.start,
        end_block=blocks.end,
        public_name=public_name,
        version=own_version(),
        forward_rps=None if speed is None else speed.prefill_rps,
        inference_rps=None if speed is None else speed.decode_rps,
        torch_dtype=dtype_name(dtype),
        adapters=adapters,
        quant_type="none",
        cache_tokens_left=2 * slots_left,
    )
