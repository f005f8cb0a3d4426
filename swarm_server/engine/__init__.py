"""Runs hidden states through a span of blocks: attention, norms and rotary positions.

Entry point: `Span`. Must not know peers, messages or files.
"""

from swarm_server.engine.compute_thread import ComputeThread
from swarm_server.engine.span import Span

__all__ = ["ComputeThread", "Span"]
