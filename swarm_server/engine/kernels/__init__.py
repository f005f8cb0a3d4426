"""Kernels in C for what torch does slowly on a CPU: attention of decode steps over pages.

`load_decode_kernel` builds them once per machine with the system's compiler; without one it
returns None, and the engine goes the way of torch. Knows tensors, nothing of sessions.
"""

from swarm_server.engine.kernels.decode_attention import (
    DecodeAttention,
    DecodeHeads,
    DecodeKernel,
    DecodeRows,
    load_decode_kernel,
)

__all__ = ["DecodeAttention", "DecodeHeads", "DecodeKernel", "DecodeRows", "load_decode_kernel"]
