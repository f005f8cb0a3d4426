"""Kernels in C for what torch does slowly on a CPU: attention of decode steps over pages, and
what blocks do to each token alone.

`load_decode_kernel` and `row_operations` build them once per machine with the system's compiler;
without one they return None, and the engine goes the way of torch. Knows tensors, nothing of
sessions.
"""

from swarm_server.engine.kernels.decode_attention import (
    DecodeAttention,
    DecodeHeads,
    DecodeKernel,
    DecodeRows,
    load_decode_kernel,
)
from swarm_server.engine.kernels.row_operations import RowOperations, row_operations

__all__ = [
    "DecodeAttention",
    "DecodeHeads",
    "DecodeKernel",
    "DecodeRows",
    "RowOperations",
    "load_decode_kernel",
    "row_operations",
]
