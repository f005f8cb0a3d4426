"""Kernels in C for what torch does slowly on a CPU: attention over pages, and what blocks do to
each token alone.

`load_attention_kernel` and `row_operations` build them once per machine with the system's compiler;
without one they return None, and the engine goes the way of torch. Knows tensors, nothing of
sessions.
"""

from swarm_server.engine.kernels.attention import (
    AttentionHeads,
    AttentionKernel,
    KernelAttention,
    PagedSegments,
    load_attention_kernel,
)
from swarm_server.engine.kernels.row_operations import RowOperations, row_operations

__all__ = [
    "AttentionHeads",
    "AttentionKernel",
    "KernelAttention",
    "PagedSegments",
    "RowOperations",
    "load_attention_kernel",
    "row_operations",
]
